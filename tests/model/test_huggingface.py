"""Parity with the T5 of Hugging Face: the same weights give the same numbers, in both directions."""

import dataclasses
import io
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from data.vocabulary import Vocabulary
from model import huggingface
from model.config import T5Config, sized
from model.convert import main, open_folder, write_huggingface
from model.decoding.search import beam_search, greedy
from model.initialize import initialize
from model.loss import cross_entropy
from model.masks import padding_segments
from model.source import load
from model.transformer import T5, Batch
from tests.model.decoding.plain import plain_beam
from tests.model.exports import export_model

transformers = pytest.importorskip("transformers", reason="needs the package transformers")

SHAPE = {"vocab_rows": 384, "d_model": 32, "d_ff": 48, "d_kv": 12, "heads": 4, "encoder_layers": 2, "decoder_layers": 3}
CONFIGS = {
    "v1.0": T5Config(**SHAPE),
    "v1.1": T5Config(**SHAPE, feed_forward="gated-gelu", tied=False),
    "shared": T5Config(**SHAPE | {"encoder_layers": 3}, architecture="shared"),
}


def drawn_model(config: T5Config, seed: int = 0) -> T5:
    model = T5(config)
    initialize(model, seed)
    # Norm scales that are not all 1, so that a forgotten one shows.
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5, generator=torch.Generator().manual_seed(len(name)))
    return model


@pytest.fixture(scope="module", params=CONFIGS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """One of our models and the same model as Hugging Face loads it."""
    folder = tmp_path_factory.mktemp("models")
    ours = drawn_model(CONFIGS[request.param])
    export_model(ours, folder / "export")
    main([str(folder / "export"), str(folder / "hf")])
    theirs = transformers.T5ForConditionalGeneration.from_pretrained(folder / "hf").eval()
    return ours, theirs, folder


def rows(padded: bool) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randint(2, 384, (3, 150), generator=generator)
    targets = torch.randint(2, 384, (3, 140), generator=generator)
    if padded:
        inputs[0, 30:] = 0
        inputs[2, 149:] = 0
        targets[1, 9:] = 0
    return inputs, targets


@pytest.mark.parametrize("padded", [False, True])
def test_logits_loss_and_gradients_agree(pair, padded: bool) -> None:
    ours, theirs, _ = pair
    inputs, targets = rows(padded)
    batch = Batch(inputs, targets, input_segments=padding_segments(inputs) if padded else None)
    ours.zero_grad()
    hidden = ours(batch)
    sums = cross_entropy(ours.scale_output(hidden), ours.output_weight, targets, batch.counted(), z_loss=0.0)
    (sums.loss / sums.tokens).backward()
    theirs.zero_grad()
    result = theirs(
        input_ids=inputs,
        attention_mask=(inputs != 0).long() if padded else None,
        labels=targets.masked_fill(targets == 0, -100),
    )
    result.loss.backward()
    counted = batch.counted()
    torch.testing.assert_close(ours.project(hidden)[counted], result.logits[counted], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sums.loss / sums.tokens, result.loss, rtol=1e-5, atol=1e-5)
    compare_gradients(ours, theirs)


def compare_gradients(ours: T5, theirs) -> None:
    table = huggingface.names(ours.config)
    expected: dict[str, Tensor] = {}
    for name, parameter in theirs.named_parameters():
        if name in table:
            gradient = huggingface.turn(table[name], parameter.grad)
            expected[table[name]] = expected.get(table[name], 0) + gradient
    assert expected.keys() == dict(ours.named_parameters()).keys()
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-5, msg=name)


def test_a_model_of_theirs_comes_back_bit_for_bit(pair, tmp_path: Path) -> None:
    ours, theirs, _ = pair
    theirs.save_pretrained(tmp_path / "saved", max_shard_size="20KB")
    assert len(list((tmp_path / "saved").glob("*.safetensors"))) > 3
    main([str(tmp_path / "saved"), str(tmp_path / "export")])
    back = load(open_folder(tmp_path / "export"))
    # A shared model leaves as two stacks and comes back as two.
    assert back.config == dataclasses.replace(ours.config, architecture="encoder_decoder")
    for name, parameter in back.named_parameters():
        source = name.replace("encoder.", "decoder.") if ours.encoder is None else name
        assert torch.equal(parameter, dict(ours.named_parameters())[source]), name


def test_large_models_leave_in_several_files(pair, tmp_path: Path) -> None:
    _, theirs, folder = pair
    write_huggingface(open_folder(folder / "export"), tmp_path / "hf", shard_bytes=30_000)
    index = json.loads((tmp_path / "hf/model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 3
    again = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "hf")
    for (name, one), (_, other) in zip(theirs.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(one, other), name


def test_published_configs_map_to_the_sizes_of_the_study() -> None:
    for name in ("small", "11B", "v1.1-xxl"):
        assert huggingface.config_from(huggingface.config_to(sized(name))) == sized(name)
    as_released = {"model_type": "t5", "d_model": 512, "d_ff": 1024, "d_kv": 64, "num_heads": 6, "num_layers": 8,
                   "num_decoder_layers": 8, "vocab_size": 32128, "feed_forward_proj": "gated-gelu",
                   "tie_word_embeddings": False, "dropout_rate": 0.0, "relative_attention_num_buckets": 32}  # fmt: skip
    assert huggingface.config_from(as_released) == sized("v1.1-small")


@pytest.fixture(scope="module", params=["v1.0", "v1.1"])
def speakers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """Pairs with few words and sharp attention, so that answers vary and end."""
    folder = tmp_path_factory.mktemp("speakers")
    pairs = []
    for seed in range(2):
        # Their cache takes its depth from the encoder's number of layers, so the two depths are equal here.
        ours = drawn_model(dataclasses.replace(CONFIGS[request.param], vocab_rows=24, decoder_layers=2), seed)
        with torch.no_grad():
            for name, parameter in ours.named_parameters():
                parameter *= 6 if name.endswith((".q.weight", ".o.weight", ".wo.weight", "bias.weight")) else 1
        export_model(ours, folder / f"export{seed}")
        main([str(folder / f"export{seed}"), str(folder / f"hf{seed}")])
        pairs.append((ours, transformers.T5ForConditionalGeneration.from_pretrained(folder / f"hf{seed}").eval()))
    return pairs


def prompts() -> Tensor:
    inputs = torch.randint(2, 24, (6, 40), generator=torch.Generator().manual_seed(8))
    for row, length in enumerate((40, 3, 17, 1, 29, 8)):
        inputs[row, length:] = 0
    return inputs


def test_greedy_answers_are_theirs_token_for_token(speakers) -> None:
    inputs, ended = prompts(), 0
    for ours, theirs in speakers:
        got = greedy(ours, inputs, max_length=60)
        expected = theirs.generate(inputs, attention_mask=(inputs != 0).long(), max_new_tokens=60, do_sample=False)
        assert torch.equal(got, expected[:, 1:])
        ended += int((got == 1).any(1).sum())
    assert ended > 0


def test_beam_answers_are_theirs_token_for_token(speakers) -> None:
    """At length exponent 0 the two scores agree; rows where their rule of finishing matters are left out."""
    inputs, compared = prompts(), 0
    for ours, theirs in speakers:
        beams = beam_search(ours, inputs, max_length=10, width=4, alpha=0.0)
        expected = theirs.generate(
            inputs, attention_mask=(inputs != 0).long(), max_new_tokens=10, do_sample=False, num_beams=4,
            length_penalty=0.0, early_stopping="never", return_dict_in_generate=True, output_scores=True,
        )  # fmt: skip
        for row, prompt in enumerate(inputs.tolist()):
            prompt = [i for i in prompt if i]
            target, answer = plain_beam([ours], prompt, 10, 4, 0.0, huggingface=True)[0]
            assert expected.sequences[row, 1 : len(answer) + 1].tolist() == answer
            if plain_beam([ours], prompt, 10, 4, 0.0)[0][1] == answer:
                assert beams.ids[row, 0, : len(answer)].tolist() == answer
                assert beams.scores[row, 0].item() == pytest.approx(expected.sequences_scores[row].item(), abs=1e-5)
                assert beams.scores[row, 0].item() == pytest.approx(target, abs=1e-5)
                compared += 1
    assert compared > 4


def test_their_tokenizer_reads_our_vocabulary(tmp_path: Path) -> None:
    import sentencepiece

    words = [f"{a}{b}{c}" for a in "bdfglm" for b in "aeiou" for c in "knrst"]
    lines = [" ".join(words[i * j % len(words)] for j in range(1, 12)) for i in range(1, 150)]
    pieces = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=pieces, vocab_size=64, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
        minloglevel=2,
    )  # fmt: skip
    ours = Vocabulary(pieces.getvalue())
    export_model(drawn_model(CONFIGS["v1.0"]), tmp_path / "export", ours.model)
    main([str(tmp_path / "export"), str(tmp_path / "hf")])
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert len(theirs) == ours.size
    assert theirs.convert_tokens_to_ids(["<extra_id_0>", "<extra_id_99>"]) == [ours.sentinel(0), ours.sentinel(99)]
    for line in ("bak  den fir", "lot mus gat", "unknown q: zzz."):
        assert theirs(line).input_ids == [*ours.encode(line), 1]

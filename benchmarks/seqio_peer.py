# mypy: ignore-errors
"""seqio and the t5 package's span corruption, run in an environment of their own: this file imports nothing of ours.

    PYTHON benchmarks/seqio_peer.py TEXTS.jsonl SENTENCEPIECE.model INPUTS TARGETS ROWS

For every line on standard input it makes the number of batches that the line names, and prints one JSON object:
`tokens` (non-padding input and target tokens), `batches`, `wall` and `cpu` seconds. CPU time is counted from answer to
answer, as the pipeline also works ahead.

An environment that works: Python 3.11 with seqio 0.0.20, t5 0.9.4, tensorflow 2.19.1, tensorflow-datasets 4.9.8,
tensorflow-metadata below 1.18 and sentencepiece 0.2.0, and without seqio-nightly and tfds-nightly.
"""

import json
import os
import sys
import time


def main() -> None:
    """Serve until standard input ends."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    texts, model, inputs, targets, rows = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
    batches = iter(dataset(texts, model, inputs, targets).batch(rows).as_numpy_iterator())
    next(batches)
    print(json.dumps({"ready": True}), flush=True)
    cpu = time.process_time()
    for line in sys.stdin:
        wall = time.perf_counter()
        tokens = 0
        for _ in range(int(line)):
            batch = next(batches)
            tokens += int((batch["inputs"] != 0).sum() + (batch["targets"] != 0).sum())
        spent = {"wall": time.perf_counter() - wall, "cpu": -cpu}
        cpu = time.process_time()
        spent["cpu"] += cpu
        print(json.dumps({"tokens": tokens, "batches": int(line), **spent}), flush=True)


def dataset(texts, model, inputs, targets):
    """The task of the original pre-training recipe over a file of texts, repeated without end."""
    import seqio
    import tensorflow as tf
    from t5.data import preprocessors

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    with open(texts, encoding="utf-8") as file:
        documents = [json.loads(line) for line in file]

    def source(split, shuffle_files=False, seed=None):
        return tf.data.Dataset.from_tensor_slices({"text": documents})

    vocabulary = seqio.SentencePieceVocabulary(model, extra_ids=100)
    seqio.TaskRegistry.add(
        "benchmark",
        source=seqio.FunctionDataSource(source, splits=["train"]),
        preprocessors=[
            lambda data: data.map(lambda row: {"inputs": "", "targets": row["text"]}),
            seqio.preprocessors.tokenize,
            preprocessors.span_corruption,
            seqio.preprocessors.append_eos_after_trim,
        ],
        output_features={
            name: seqio.Feature(vocabulary, add_eos=True, required=name == "targets") for name in ("inputs", "targets")
        },
    )
    found = seqio.get_dataset(
        "benchmark", task_feature_lengths={"inputs": inputs, "targets": targets}, dataset_split="train", shuffle=True,
        feature_converter=seqio.PassThroughFeatureConverter(), num_epochs=None, seed=0,
    )
    widths = {"inputs": [inputs], "targets": [targets]}

    def plain(row):
        return {name: tf.cast(row[name][:widths[name][0]], tf.int32) for name in widths}

    padded = found.map(plain).padded_batch(1, padded_shapes=widths).unbatch()
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    return padded.with_options(options)


if __name__ == "__main__":
    main()

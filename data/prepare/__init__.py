"""From raw text to a prepared corpus: read, clean, de-duplicate, train a vocabulary, write shards and an index.

``python -m data.prepare`` is the door for users; :func:`data.prepare.embedded.prepare_embedded` and
:func:`data.prepare.pipeline.prepare` are the doors for programs.
"""

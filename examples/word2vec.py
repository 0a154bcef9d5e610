"""Learns what words mean from the words around them: skip-grams with negative sampling.

    python examples/word2vec.py
    paramserve run --ps 2 --workers 2 -- python examples/word2vec.py

Two tables hold a vector for every word, as a center and as a context. A step looks up some of
their rows, updates these rows and no others: what travels to and from the servers does not grow
with the vocabulary. Each table is partitioned, so that every server holds a part. The text has
words that mean the same and are never seen together (see `sentences.py`); the accuracy is how
many of them have the other one for a nearest neighbor.

The method is that of Mikolov et al., "Distributed representations of words and phrases and their
compositionality", 2013.
"""

from __future__ import annotations

import numpy as np
import sentences
import workers

import paramserve as ps

DIMENSIONS = 24
PARTS = 2
NEGATIVES = 32
BATCH = 256
REPORT_EVERY = 250


def table(name: str, words: int, initializer: object) -> ps.PartitionedVariable:
    """A vector for each word: `[words, DIMENSIONS]`, in parts of consecutive rows."""
    rows: ps.PartitionedVariable = ps.get_variable(
        name,
        [words, DIMENSIONS],
        initializer=initializer,
        partitioner=ps.fixed_size_partitioner(PARTS),
    )
    return rows


def sampling_loss(centers: ps.Tensor, contexts: ps.Tensor, noise: ps.Tensor) -> ps.Tensor:
    """How badly the vectors tell the words that are near from those that are drawn at random.

    Args:
        centers: `[batch, DIMENSIONS]`.
        contexts: `[batch, DIMENSIONS]`, of words that were near.
        noise: `[NEGATIVES, DIMENSIONS]`, of random words, the same ones for the whole batch.
    """
    near = ps.reduce_sum(centers * contexts, 1)
    far = ps.matmul(centers, noise, transpose_b=True)
    return ps.reduce_mean(
        ps.nn.sigmoid_cross_entropy_with_logits(logits=near, labels=ps.ones_like(near))
    ) + ps.reduce_mean(
        ps.reduce_sum(
            ps.nn.sigmoid_cross_entropy_with_logits(logits=far, labels=ps.zeros_like(far)), 1
        )
    )


def main(steps: int = 1500, seed: int = 0, target: str = "") -> float:
    """Trains the vectors; answers how many synonyms were found."""
    corpus = sentences.Corpus(sentences.text())
    size = len(corpus.words)
    ps.set_random_seed(seed)
    with ps.device(ps.train.replica_device_setter(cluster=workers.cluster())):
        center_ids = ps.placeholder(ps.int32, [None], name="centers")
        context_ids = ps.placeholder(ps.int32, [None], name="contexts")
        global_step = ps.train.get_or_create_global_step()
        bound = 0.5 / DIMENSIONS
        embeddings = table("embeddings", size, ps.random_uniform_initializer(-bound, bound))
        weights = table("weights", size, ps.zeros_initializer())

        # Frequent words are drawn often, but less so than they are frequent.
        frequency = ps.constant(0.75 * np.log(corpus.counts)[np.newaxis])
        noise_ids = ps.reshape(ps.multinomial(frequency, NEGATIVES), [-1])
        loss = sampling_loss(
            ps.nn.embedding_lookup(embeddings, center_ids, partition_strategy="div"),
            ps.nn.embedding_lookup(weights, context_ids, partition_strategy="div"),
            ps.nn.embedding_lookup(weights, noise_ids, partition_strategy="div"),
        )
        train = ps.train.AdagradOptimizer(2.0, 0.01).minimize(loss, global_step=global_step)

        unit = ps.nn.l2_normalize(ps.concat(list(embeddings), 0), 1)
        words, partners = corpus.synonyms.T
        likeness = ps.matmul(ps.gather(unit, words), unit, transpose_b=True)
        likeness -= 2.0 * ps.one_hot(words, size)  # a word is not its own neighbor
        accuracy = ps.reduce_mean(
            ps.cast(ps.equal(ps.argmax(likeness, 1), partners.astype(np.int64)), ps.float32)
        )

    random = np.random.RandomState(seed + workers.index())
    with workers.session(target) as session:
        step = 0
        while step < steps:
            batch = corpus.pairs[random.randint(len(corpus.pairs), size=BATCH)]
            _, step, value = session.run(
                [train, global_step, loss], {center_ids: batch[:, 0], context_ids: batch[:, 1]}
            )
            if step % REPORT_EVERY == 0:
                found = session.run(accuracy)
                print(f"step {step:5d}  loss {value:.4f}  synonyms found {found:.0%}", flush=True)
        final = float(session.run(accuracy))
    print(f"synonyms found {final:.2%}", flush=True)
    return final


if __name__ == "__main__":
    main(**workers.flags(__doc__, steps=1500))

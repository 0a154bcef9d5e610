"""The data of the word2vec example: an English of a few hundred words, made up by rule.

Each *theme* has two words that mean the same and the words that are said with them. A sentence
is about one theme: it has one of the two, never both, some of the other words, and small words
between them. So nothing in the text says which words mean the same, but for their company; what
a model found can be counted. The text is made here, nobody else's, and always the same.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

THEMES: Final = {
    ("ship", "boat"): "sail harbor deck anchor captain wave",
    ("doctor", "physician"): "heal patient medicine hospital nurse fever",
    ("king", "monarch"): "crown throne castle reign kingdom royal",
    ("child", "kid"): "toy school play mother swing candy",
    ("car", "automobile"): "drive wheel engine highway garage fuel",
    ("stone", "rock"): "hard cliff quarry granite mountain climb",
    ("forest", "woods"): "tree leaf deer hunter path moss",
    ("house", "home"): "door roof window kitchen garden family",
    ("shop", "store"): "buy price shelf customer clerk sale",
    ("soldier", "warrior"): "battle sword shield army march enemy",
    ("teacher", "tutor"): "lesson pupil chalk grammar homework explain",
    ("bread", "loaf"): "bake oven flour butter crust slice",
    ("road", "street"): "walk corner lamp pavement town cross",
    ("story", "tale"): "tell hero dragon listen legend chapter",
    ("thief", "robber"): "steal gold night mask police jail",
    ("judge", "magistrate"): "law court verdict witness trial lawyer",
    ("song", "tune"): "sing melody voice choir guitar chorus",
    ("rain", "drizzle"): "cloud umbrella wet puddle storm gray",
    ("money", "cash"): "bank coin pay wallet debt loan",
    ("cat", "feline"): "purr whisker mouse milk paw fur",
}
SMALL_WORDS: Final = ("the", "a", "of", "and", "in", "with", "to", "for")


def text(sentences: int = 6000) -> list[list[str]]:
    """Sentences, each a list of words."""
    random = np.random.RandomState(0)
    themes = list(THEMES.items())
    found = []
    for _ in range(sentences):
        synonyms, others = themes[random.randint(len(themes))]
        said = [*random.choice(others.split(), 3, replace=False), synonyms[random.randint(2)]]
        random.shuffle(said)
        sentence = []
        for word in said:
            sentence += [SMALL_WORDS[random.randint(len(SMALL_WORDS))], str(word)]
        found.append(sentence)
    return found


class Corpus:
    """A text as numbers.

    Attributes:
        words: the words, the most frequent first; a word's number is its place.
        counts: `[words]`, how often each is in the text.
        pairs: `[n, 2]`, each word of the text with each word near it.
        synonyms: `[m, 2]`, words that mean the same, both ways round.
    """

    def __init__(self, sentences: list[list[str]], window: int = 3) -> None:
        counted = Counter(word for sentence in sentences for word in sentence).most_common()
        self.words = [word for word, _ in counted]
        self.counts: NDArray[np.float32] = np.array([n for _, n in counted], np.float32)
        number = {word: i for i, word in enumerate(self.words)}
        pairs = []
        for sentence in sentences:
            ids = [number[word] for word in sentence]
            for at, center in enumerate(ids):
                near = ids[max(at - window, 0) : at] + ids[at + 1 : at + window + 1]
                pairs += [(center, context) for context in near]
        self.pairs: NDArray[np.int32] = np.array(pairs, np.int32)
        both_ways = [p for a, b in THEMES for p in ((number[a], number[b]), (number[b], number[a]))]
        self.synonyms: NDArray[np.int32] = np.array(both_ways, np.int32)

"""Write text word by word, as a language model does: a stream, from a model that each process builds once.

The model is a table of which word follows which in the Zen of Python. It is small, but the shape is that of a large
one: `start` loads it, the generator asks it for the next word, and the caller reads as it is written.
"""

import codecs
import contextlib
import io
import random
from collections import defaultdict
from collections.abc import Iterator

from motes import function

Model = dict[str, list[str]]


def learn() -> Model:
    """Which words follow each word in the Zen of Python."""
    with contextlib.redirect_stdout(io.StringIO()):
        import this
    text = codecs.decode(this.s, "rot13").split()
    follows: Model = defaultdict(list)
    for word, after in zip(text, text[1:] + text[:1], strict=True):
        follows[word].append(after)
    return dict(follows)


@function(start=learn, timeout="60 s")
def write(words: int = 20, seed: int | None = None) -> Iterator[str]:
    """So many words; equal seeds give equal texts."""
    model, chance = write.started, random.Random(seed)
    word = chance.choice(sorted(model))
    for _ in range(words):
        yield word
        word = chance.choice(model[word])

"""The version of Motes, for every part: `motes` itself names what the public names come from."""

__version__ = "0.1.0"

"""Designs that are no vectors: vocabularies, encodings, latent spaces."""

from botorch_roma.latent.encoding import Encoding, LogitsEncoding, OneHotEncoding
from botorch_roma.latent.vocabulary import Vocabulary

__all__ = ["Encoding", "LogitsEncoding", "OneHotEncoding", "Vocabulary"]

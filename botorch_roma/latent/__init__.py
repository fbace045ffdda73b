"""Designs that are no vectors: vocabularies, encodings, latent spaces."""

from botorch_roma.latent.columns import ColumnEncoding, NumericEncoding
from botorch_roma.latent.encoding import Encoding, LogitsEncoding, OneHotEncoding
from botorch_roma.latent.space import LatentSpace, make_sequence_encoding
from botorch_roma.latent.vocabulary import Vocabulary

__all__ = [
    "ColumnEncoding",
    "Encoding",
    "LatentSpace",
    "LogitsEncoding",
    "NumericEncoding",
    "OneHotEncoding",
    "Vocabulary",
    "make_sequence_encoding",
]

"""What our datasets hold of an utterance."""

import numpy as np
import tensorflow_datasets as tfds


def speech_features() -> tfds.features.FeaturesDict:
    """Samples at 16 kHz in 16 bits, and what is known of them.

    A plain tensor: `tfds.features.Audio` would bring in TensorFlow.
    """
    return tfds.features.FeaturesDict(
        {
            "audio": tfds.features.Tensor(shape=(None,), dtype=np.int16, encoding="bytes"),
            "text": tfds.features.Text(),
            "language": tfds.features.Text(),
            "speaker": tfds.features.Text(),
        }
    )


def to_int16(samples: np.ndarray) -> np.ndarray:
    """[samples] floats in [-1, 1] to int16."""
    return (np.clip(samples, -1, 1) * 32767).astype(np.int16)

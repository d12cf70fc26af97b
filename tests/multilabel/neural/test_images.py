"""Models of images, from random weights to a good deal better than chance."""

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from evenhand.multilabel.datasets import make_pictures
from evenhand.multilabel.metrics import (
    average_precision,
    by_bucket,
    frequency_buckets,
    mean_average_precision,
)
from evenhand.multilabel.neural.encoders import ImageModel, OwnEncoder
from evenhand.multilabel.neural.estimator import NeuralGameClassifier
from evenhand.multilabel.readers import read_images

TRAIN, TEST = np.arange(1200), np.arange(1200, 1500)


def block(wide, next_wide):
    return [nn.Conv2d(wide, next_wide, 3, padding=1), nn.BatchNorm2d(next_wide), nn.ReLU(), nn.MaxPool2d(2)]


def small_cnn():
    torch.manual_seed(0)
    layers = [*block(3, 16), *block(16, 32), *block(32, 64), nn.AdaptiveMaxPool2d(1), nn.Flatten()]
    return OwnEncoder(nn.Sequential(*layers), 64)


def held_out_map(encoder, epochs):
    pictures, labels = make_pictures(1500)
    model = NeuralGameClassifier(
        encoder,
        epochs=epochs,
        batch_size=32,
        learning_rate=3e-3,
        update="joint",
        patience=epochs,
        device="cpu",
    ).fit(pictures[TRAIN], labels[TRAIN])
    p = model.predict_proba(pictures[TEST])
    precisions = average_precision(labels[TEST], p)
    by_frequency = by_bucket(precisions, frequency_buckets(model.label_counts_, edges=(50, 100)))
    chance = labels[TEST].mean()  # what a ranking at random gives a label is its share of positives
    return mean_average_precision(labels[TEST], p), by_frequency, chance


@pytest.mark.slow
def test_a_small_network_learns_head_and_tail():
    found, by_frequency, chance = held_out_map(small_cnn(), 12)
    assert chance < 0.11
    assert found > 0.6
    assert (by_frequency > 0.4).all()


@pytest.mark.slow
def test_timms_smallest_model_learns_from_scratch():
    try:
        import timm  # noqa: F401
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"timm cannot be imported (evenhand[images]): {error}")
    found, _, chance = held_out_map(ImageModel("test_efficientnet", size=64), 8)
    assert found > 3 * chance


def test_from_a_folder_to_label_sets(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed (evenhand[images])")
    pictures, labels = make_pictures(200, size=16)
    names = [f"{row}.png" for row in range(200)]
    for name, picture in zip(names, pictures, strict=True):
        image.fromarray(picture).save(tmp_path / name)
    tags = [" ".join(f"kind{c}" for c in row) for row in np.split(labels.indices, labels.indptr[1:-1])]
    pl.DataFrame({"file_name": names, "tags": tags}).write_csv(tmp_path / "metadata.csv")
    data = read_images(tmp_path, separator=" ")
    encoder = OwnEncoder(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten()), 4)
    model = NeuralGameClassifier(encoder, epochs=1, device="cpu").fit(data.images, data.Y)
    from_arrays = NeuralGameClassifier(encoder, epochs=1, device="cpu").fit(pictures, data.Y)
    assert np.array_equal(model.predict_proba(data.images), from_arrays.predict_proba(pictures))
    assert len(model.label_sets(model.predict(data.images[:3]))) == 3

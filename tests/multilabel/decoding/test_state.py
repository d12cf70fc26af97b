import json

import numpy as np
import pytest
from scipy import sparse

from evenhand.multilabel.decoding import (
    GlobalThreshold,
    IsotonicCalibration,
    LabelThresholds,
    MacroF1,
    PlattCalibration,
    PropensityReranking,
    TopK,
    calibration_from_state,
    decoder_from_state,
)


def problem():
    rng = np.random.default_rng(0)
    Y = rng.random((80, 5)) < 0.3
    Y[:, 2] = False
    return rng.random((80, 5)).astype(np.float32) * 0.5 + 0.4 * Y, Y


def through_a_model_folder(state):
    """Numbers and strings through JSON; arrays, which safetensors holds, as copies."""
    plain = {key: value for key, value in state.items() if not isinstance(value, np.ndarray)}
    arrays = {key: value.copy() for key, value in state.items() if isinstance(value, np.ndarray)}
    return {**json.loads(json.dumps(plain, allow_nan=False)), **arrays}


@pytest.mark.parametrize(
    "decoder",
    [
        GlobalThreshold(),
        GlobalThreshold("macro"),
        LabelThresholds(3),
        TopK(2),
        PropensityReranking(np.linspace(0.1, 1, 5), 2),
        MacroF1(),
        MacroF1(k=2, least_f1=0.1),
    ],
    ids=lambda decoder: type(decoder).__name__,
)
def test_decoders_survive_a_round_trip(decoder):
    scores, Y = problem()
    if hasattr(decoder, "fit"):
        decoder.fit(scores, Y)
    state = through_a_model_folder(decoder.get_state())
    again = decoder_from_state(state)
    assert type(again) is type(decoder)
    np.testing.assert_array_equal(again.decode(scores).toarray(), decoder.decode(scores).toarray())
    assert again.get_state().keys() == decoder.get_state().keys()


@pytest.mark.parametrize("calibration", [PlattCalibration(5), IsotonicCalibration(20, pull=5)])
def test_calibrations_survive_a_round_trip(calibration):
    scores, Y = problem()
    calibration.fit(scores, Y)
    again = calibration_from_state(through_a_model_folder(calibration.get_state()))
    assert type(again) is type(calibration)
    np.testing.assert_array_equal(again.transform(scores), calibration.transform(scores))
    for key, value in calibration.get_state().items():
        np.testing.assert_array_equal(again.get_state()[key], value)


def test_saved_state_is_not_the_decoders_own_array():
    decoder = LabelThresholds().fit(*problem())
    decoder.get_state()["thresholds"][:] = 9
    assert decoder.thresholds_.max() < 9


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"kind": "Oracle"}, "state is of kind 'Oracle'; known are GlobalThreshold"),
        ({}, "state is of kind None"),
        ({"kind": "TopK"}, "state has no field 'k'"),
        ({"kind": "TopK", "k": "three"}, "state field 'k' must be a finite number"),
        ({"kind": "GlobalThreshold", "objective": "micro", "threshold": np.nan}, "must be a finite number"),
        ({"kind": "GlobalThreshold", "threshold": 0.5}, "objective must be"),
        (
            {"kind": "LabelThresholds", "shrinkage": 1.0, "thresholds": np.array([np.inf])},
            "row of finite numbers",
        ),
    ],
)
def test_damaged_decoders_are_named(state, message):
    with pytest.raises(ValueError, match=message):
        decoder_from_state(state)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("intercepts", np.zeros(4), "'intercepts' must be a row of 5 finite numbers"),
        ("starts", np.array([0, 1, 1, 1, 1, 2]), "'starts' does not fit 'knots'"),
        ("levels", np.zeros(1), "'levels' must be a row"),
    ],
)
def test_damaged_calibrations_are_named(field, value, message):
    state = {**IsotonicCalibration().fit(*problem()).get_state(), field: value}
    with pytest.raises(ValueError, match=message):
        calibration_from_state(state)


@pytest.mark.parametrize(
    "decoder",
    [
        GlobalThreshold(),
        GlobalThreshold("macro"),
        LabelThresholds(),
        TopK(2),
        PropensityReranking([0.5] * 5, 2),
        MacroF1(),
        MacroF1(2),
    ],
)
def test_64_bit_indices_change_nothing(decoder, wide):
    scores, Y = problem()
    scores, Y = sparse.csr_array(np.where(scores > 0.3, scores, 0)), sparse.csr_array(Y)
    decided = []
    for form in (sparse.csr_array, wide):
        if hasattr(decoder, "fit"):
            decoder.fit(form(scores), form(Y))
        decided.append(decoder.decode(form(scores)).toarray())
    np.testing.assert_array_equal(*decided)

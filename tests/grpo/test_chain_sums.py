"""Chain sums: derivations by hand, the families' relation of length and correctness, and the small policy."""

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from evenhand.grpo.chain_policy import make_model, make_tokenizer, sample, starting_policy, train_policy
from evenhand.grpo.chain_sums import ChainSums, PolicySettings, form_of, is_right, terms

TINY = PolicySettings(hidden=16, layers=1, heads=2, intermediate=16, n_derivations=96)
N = 20_000

torch.set_num_threads(1)  # beside other work two threads wait for each other, on models this small


def shares_right(family):
    """Share right of the corpus, and its standard error, by form."""
    rows = list(family.corpus(N, seed=3))
    found = {}
    for form in ("short", "long"):
        right = [is_right(row.completion, row.answer) for row in rows if row.form == form]
        found[form] = np.mean(right), np.std(right) / np.sqrt(len(right))
    return found


@pytest.mark.parametrize(("relation", "sign"), [("longer", 1), ("neither", 0), ("shorter", -1)])
def test_the_corpus_has_the_relation_of_its_family(relation, sign):
    family = ChainSums(relation)
    found = shares_right(family)
    gap = found["long"][0] - found["short"][0]
    error = np.hypot(found["long"][1], found["short"][1])
    if sign:
        assert sign * gap > 0.3
    else:
        assert abs(gap) < 4 * error
    for form, (share, one_error) in found.items():
        # errors that cancel out make some more answers right
        assert family.share_right(form) - 4 * one_error < share < family.share_right(form) + 0.1


def test_long_derivations_are_much_longer():
    lengths = {"short": [], "long": []}
    for row in ChainSums().corpus(2000, seed=0):
        lengths[row.form].append(len(row.completion))
        assert form_of(row.completion) == row.form
    assert min(lengths["long"]) > 1.5 * max(lengths["short"])
    assert 0.45 < len(lengths["long"]) / 2000 < 0.55


def test_steps_are_wrong_as_often_as_said():
    wrong, steps = 0, 0
    family = ChainSums("longer")
    for row in family.corpus(N, seed=1):
        if row.form == "long":
            for step in row.completion.split(","):
                question, result = step.split("=")
                wrong += sum(map(int, question.split("+"))) != int(result)
                steps += 1
    # a little less, as a total is never pulled below 1
    assert wrong / steps == pytest.approx(family.step_error("long"), abs=0.005)


def test_a_wrong_step_is_gone_on_from():
    rng = np.random.default_rng(0)
    for _ in range(50):
        totals = [1]
        for step in ChainSums("shorter").write("1+2+3+4+5=", "long", rng).split(","):
            question, result = step.split("=")
            assert int(question.split("+")[0]) == totals[-1]
            totals.append(int(result))


def test_right_derivations_end_in_the_sum():
    family = ChainSums(n_terms=7)
    for prompt in family.problems(200, seed=5):
        for form in ("short", "long"):
            derivation = family.write(prompt, form)
            assert is_right(derivation, sum(terms(prompt)))
            assert len(derivation) <= family.longest


def test_held_out_problems_are_apart_and_all_problems_are_reached():
    family = ChainSums(n_terms=4)
    train = set(family.problems(50_000, seed=0))
    test = set(family.problems(50_000, seed=0, held_out=True))
    assert not train & test
    assert len(train | test) == 5**4 - 5**4 % 7
    digits = np.array([terms(prompt) for prompt in test])
    assert np.abs([(digits == d).mean(0) - 0.2 for d in range(1, 6)]).max() < 0.05


def test_the_same_seed_gives_the_same_corpus():
    family = ChainSums()
    assert list(family.corpus(50, seed=4)) == list(family.corpus(50, seed=4))
    assert list(family.corpus(50, seed=4)) != list(family.corpus(50, seed=5))


@pytest.mark.parametrize(
    "completion", ["", "7,12,", "3+4=7,7+5=", "7,112", "7,012", "7,12 ", "12=", "7,1 2", ",", "x12"]
)
def test_what_is_no_right_answer(completion):
    assert not is_right(completion, 12)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"right_more_often": "both"}, "right_more_often"),
        ({"n_terms": 1}, "n_terms"),
        ({"n_terms": 13}, "n_terms"),
        ({"long_share": 1.5}, "long_share"),
    ],
)
def test_no_family_is_refused(options, named):
    with pytest.raises(ValueError, match=named):
        ChainSums(**options)


def test_what_is_no_problem_is_refused():
    with pytest.raises(ValueError, match="no chain sum"):
        terms("3+4")


def test_the_tokenizer_is_exact_and_survives_its_folder(tmp_path):
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = "3+4+5=3+4=7,7+5=12"
    for one in (tokenizer, again):
        ids = one(text)["input_ids"]
        assert len(ids) == len(text) + 1
        assert ids[0] == one.bos_token_id
        assert one.decode([*ids, one.eos_token_id, one.pad_token_id], skip_special_tokens=True) == text
    assert (again.pad_token_id, again.bos_token_id, again.eos_token_id) == (0, 1, 2)
    with pytest.raises(Exception, match=r"unk|UNK"):
        tokenizer("3*4")


def test_the_policy_has_about_0_65_million_parameters():
    model = make_model(PolicySettings())
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(650_000, rel=0.02)


def test_training_learns_and_is_the_same_again():
    def loss(model):
        batch = make_tokenizer()(["1+2+3=3,6", "1+2+3=3,6"], return_tensors="pt")["input_ids"]
        return model(input_ids=batch, labels=batch).loss.item()

    settings = PolicySettings(
        hidden=16, layers=1, heads=2, intermediate=16, n_derivations=640, learning_rate=1e-2
    )
    family = ChainSums(n_terms=3)
    losses = [loss(train_policy(family, settings)) for _ in range(2)]
    assert losses[0] == losses[1]
    assert losses[0] < loss(make_model(settings)) - 0.3


def test_the_starting_policy_is_made_once(tmp_path):
    folder, calls = tmp_path / "start", []
    family = ChainSums(n_terms=3)
    starting_policy(family, TINY, folder, report=lambda *done: calls.append(done))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    starting_policy(family, TINY, folder, report=lambda *done: calls.append(done))
    assert len(calls) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["start"]
    model = LlamaForCausalLM.from_pretrained(folder)
    assert model.generation_config.eos_token_id == 2


def test_an_interrupted_training_leaves_nothing(tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        starting_policy(ChainSums(n_terms=3), TINY, tmp_path / "start", report=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_samples_depend_on_their_seed_alone_and_leave_the_generator_alone():
    model = make_model(TINY).eval()
    prompts = ChainSums().problems(6, seed=0)
    state = torch.random.get_rng_state()
    first = sample(model, prompts, max_new_tokens=5, seed=1)
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(99)
    assert sample(model, prompts, max_new_tokens=5, seed=1) == first
    assert sample(model, prompts, max_new_tokens=5, seed=2) != first
    assert len(first) == 6

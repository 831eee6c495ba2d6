"""PyTorch models: the same books as gradcore's own, nothing left behind, the same verdicts."""

import warnings
from itertools import pairwise

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import gradcore.torch as gt  # noqa: E402
from gradcore.datasets import load_digits  # noqa: E402
from gradcore.diagnosis.arrays import ArraysDiagnosis  # noqa: E402
from gradcore.diagnosis.diagnose import Diagnosis  # noqa: E402
from gradcore.errors import GradcoreWarning  # noqa: E402

nn = torch.nn
DIGITS = load_digits()
X, Y = torch.tensor(DIGITS.X_train[:400], dtype=torch.float32), torch.tensor(DIGITS.y_train[:400])
LOSS = nn.CrossEntropyLoss()


def chain(depth=20, activation=nn.Sigmoid, std=0.01, width=64, dtype=torch.float32):
    torch.manual_seed(0)
    sizes = [64, *depth * [width]]
    parts = [p for a, b in pairwise(sizes) for p in (nn.Linear(a, b), activation())]
    model = nn.Sequential(*parts, nn.Linear(width, 10)).to(dtype)
    for module in model.modules():
        if isinstance(module, nn.Linear) and std:
            nn.init.normal_(module.weight, 0, std)
            nn.init.zeros_(module.bias)
    return model


class Blocks(nn.Module):
    """Residual blocks with layer norm: no plain chain."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.enter, self.norm, self.leave = nn.Linear(64, 32), nn.LayerNorm(32), nn.Linear(32, 10)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(32, 32), nn.ReLU(inplace=True)) for _ in range(4))

    def forward(self, x):
        x = self.enter(x)
        for block in self.blocks:
            x = x + block(self.norm(x))
        return self.leave(x)


def state_of(model):
    return (
        {name: value.clone() for name, value in model.state_dict().items()},
        [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        [(len(m._forward_hooks), len(m._forward_pre_hooks), m.training) for m in model.modules()],
        [0 if p._backward_hooks is None else len(p._backward_hooks) for p in model.parameters()],
    )


def assert_same(before, after):
    assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])
    pairs = zip(before[1], after[1], strict=True)
    assert all((a is None and b is None) or torch.equal(a, b) for a, b in pairs)
    assert before[2:] == after[2:]


def test_the_sick_demonstration_through_torch():
    diagnosis = gt.diagnose(chain(), LOSS, (X, Y))
    assert isinstance(diagnosis, Diagnosis)
    fault = diagnosis.faults[0]
    assert (fault.kind, fault.causes) == ("vanishing_gradient", ("initial_weights", "activation"))
    assert fault.ops[:2] == ("0", "2"), "named as in torch"
    assert "0 receives" not in str(diagnosis)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "activation", [nn.Tanh, nn.ReLU, nn.SELU, nn.GELU, lambda: nn.LeakyReLU(0.2), nn.ELU]
)
def test_a_chain_has_the_same_gradients(activation, dtype):
    model, x = chain(3, activation, std=None, width=16, dtype=dtype), X[:64].to(dtype)
    net = gt.translate(model, x)
    LOSS(model(x), Y[:64]).backward()
    loss, gradients = net.loss_and_gradients(x.numpy(), Y[:64].numpy())
    assert loss == pytest.approx(float(LOSS(model(x), Y[:64]).detach()), rel=1e-5)
    for ours, theirs in zip(gradients.values(), model.parameters(), strict=True):
        np.testing.assert_allclose(ours, theirs.grad.numpy(), rtol=2e-3, atol=1e-6)


def test_recorded_arrays_make_the_ledger_of_the_translated_network():
    model = chain(4, nn.Tanh, std=None, width=16, dtype=torch.float64)
    x, y = X[:64].double(), Y[:64]
    with gt._untouched(model):
        recorder = gt._Recorder(model)
        loss = LOSS(model(x), y)
        loss.backward()
        recorder.remove()
    theirs = gt.diagnose_arrays(recorder.layers(), loss=float(loss.detach()), targets=y.numpy()).ledger
    ours = gt.translate(model, x).ledger(x.numpy(), y.numpy())
    assert theirs.end_to_end_log10 == pytest.approx(ours.end_to_end_log10, abs=1e-9)
    for name in ("weight", "bias_gradient", "flat", "usable"):
        np.testing.assert_allclose(theirs.records[name][:-1], ours.records[name][:-1], rtol=1e-9)
    for name in ("output", "d_output", "weight_gradient"):
        np.testing.assert_allclose(
            theirs.records[name]["norm"][:-1], ours.records[name]["norm"][:-1], rtol=1e-9
        )


@pytest.mark.parametrize("make", [chain, Blocks])
def test_the_model_is_never_changed(make):
    model = make()
    LOSS(model(X[:8]), Y[:8]).backward()
    before, state = state_of(model), torch.random.get_rng_state()
    gt.diagnose(model, LOSS, (X, Y), optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    assert_same(before, state_of(model))
    assert torch.equal(state, torch.random.get_rng_state())


def test_batch_norm_and_dropout():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10)
    )
    model(X)  # running statistics of their own
    before = state_of(model)
    diagnosis = gt.diagnose(model, LOSS, (X, Y))
    assert isinstance(diagnosis, Diagnosis)
    assert diagnosis.healthy
    assert_same(before, state_of(model))


def test_a_residual_model_is_diagnosed_by_its_arrays():
    diagnosis = gt.diagnose(Blocks(), LOSS, (X, Y))
    assert isinstance(diagnosis, ArraysDiagnosis)
    assert diagnosis.healthy
    assert diagnosis.chance > 0.5
    assert "HEALTHY" in str(diagnosis)
    with pytest.raises(ValueError, match="plain chain"):
        gt.diagnose(Blocks(), LOSS, (X, Y), steps=5)


def test_a_model_that_does_more_than_its_modules_is_no_chain():
    class Doubled(nn.Sequential):
        def forward(self, x):
            return 2 * super().forward(x)

    assert gt.translate(nn.Sequential(nn.Linear(64, 3)), X) is not None
    assert gt.translate(Doubled(nn.Linear(64, 3)), X) is None


def test_frozen_tied_and_unused_parameters_are_no_vanishing():
    model = Blocks()
    model.unused = nn.Linear(3, 3)
    model.blocks[1][0].weight = model.blocks[0][0].weight
    for parameter in model.enter.parameters():
        parameter.requires_grad_(False)
    assert gt.diagnose(model, LOSS, (X, Y)).healthy
    one_class = X[Y == 3], Y[Y == 3]
    assert gt.diagnose(chain(2, nn.ReLU, std=None), LOSS, one_class).healthy


def test_watch_finds_the_first_step_that_overflows():
    model = Blocks()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e6)
    before = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]

    def train():
        with gt.watch(model, every=1, optimizer=optimizer) as books:
            for _ in range(8):
                optimizer.zero_grad()
                LOSS(model(X[:64]), Y[:64]).backward()
                optimizer.step()
        return books

    with pytest.warns(GradcoreWarning, match="overflow"):
        books = train()
    (fault,) = [fault for fault in books.faults if fault.kind == "overflow"]
    assert 2 <= fault.evidence["step"] <= 8
    assert "OVERFLOW" in books.report()
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()] == before
    assert all(not p._backward_hooks for p in model.parameters())


def test_watch_is_silent_on_a_sound_model_and_books_every_third_step():
    model = chain(2, nn.ReLU, std=None)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        books = gt.watch(model, every=3, on_fault=seen.append)
        for _ in range(10):
            optimizer.zero_grad()
            LOSS(model(X), Y).backward()
            optimizer.step()
        model.eval()
        model(X)
        books.remove()
        books.remove()
    assert not seen
    assert [ledger.step for ledger in books.ledgers] == [1, 4, 7, 10]
    assert books.ledgers[0].entries[0].name == "0"


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
            "SGD(lr=0.1, momentum=0.9, nesterov=True",
        ),
        (lambda p: torch.optim.Adam(p, lr=0.01, eps=1e-6), "Adam(lr=0.01, betas=(0.9, 0.999), eps=1e-06"),
        (lambda p: torch.optim.AdamW(p, weight_decay=0.2), "AdamW(lr=0.001"),
    ],
)
def test_optimizers_are_read(made, expected):
    assert repr(gt._optimizer(made(chain(1).parameters()))).startswith(expected)


def test_other_optimizers_are_named():
    with pytest.raises(TypeError, match="Adagrad"):
        gt.diagnose(chain(1), LOSS, (X, Y), optimizer=torch.optim.Adagrad(chain(1).parameters()))


def test_losses():
    assert gt._loss_name(nn.functional.cross_entropy) == "cross_entropy"
    assert gt._loss_name(nn.MSELoss(reduction="sum")) == "mse(reduction='sum')"
    assert gt._loss_name(nn.CrossEntropyLoss(label_smoothing=0.1)) is None
    model = nn.Sequential(nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 1))
    target = (Y > 4).float()[:, None]
    assert gt.diagnose(model, nn.BCEWithLogitsLoss(), (X, target)).loss == "binary_cross_entropy"
    assert gt.diagnose(model, nn.MSELoss(), (X, X[:, 20:21])).loss == "mse"
    custom = gt.diagnose(model, lambda out, y: (out - y).abs().mean(), (X, X[:, 20:21]))
    assert isinstance(custom, ArraysDiagnosis)

"""The regression, beside PyTorch's gradient and its own optimiser."""

import numpy as np
import pytest
import torch

from malmoi.router.logistic import Rows, fit, log_loss, objective, sigmoid


def rows_and_labels(num: int = 80, *, num_columns: int = 30, seed: int = 0) -> tuple[Rows, np.ndarray]:
    draws = np.random.default_rng(seed)
    others = []
    for _ in range(num):
        columns = np.sort(draws.choice(num_columns, draws.integers(1, 6), replace=False)).astype(np.int64)
        others.append((columns, draws.normal(size=len(columns))))
    rows = Rows.stack(list(draws.normal(size=(num, 3))), others, num_columns=num_columns)
    truth = draws.normal(size=3 + num_columns + 1)
    return rows, (sigmoid(rows.times(truth)) > draws.random(num)).astype(np.float64)


def dense(rows: Rows) -> torch.Tensor:
    matrix = np.zeros((len(rows), rows.named.shape[1] + rows.num_columns + 1))
    matrix[:, : rows.named.shape[1]] = rows.named
    ends = [*rows.starts[1:], len(rows.columns)]
    for row, (start, end) in enumerate(zip(rows.starts, ends, strict=True)):
        matrix[row, rows.named.shape[1] + rows.columns[start:end]] = rows.values[start:end]
    matrix[:, -1] = 1.0
    return torch.from_numpy(matrix)


def reference_loss(weights: torch.Tensor, rows: Rows, labels: np.ndarray, penalty: float) -> torch.Tensor:
    scores = dense(rows) @ weights
    loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, torch.from_numpy(labels))
    return loss + penalty / 2 * weights[:-1].square().sum()


def test_loss_and_gradient_are_those_of_torch() -> None:
    rows, labels = rows_and_labels()
    weights = np.random.default_rng(1).normal(size=34)
    loss, gradient = objective(weights, rows, labels, 0.1)
    theirs = torch.from_numpy(weights).requires_grad_()
    reference_loss(theirs, rows, labels, 0.1).backward()
    assert loss == pytest.approx(reference_loss(theirs, rows, labels, 0.1).item(), rel=1e-12)
    assert theirs.grad is not None
    np.testing.assert_allclose(gradient, theirs.grad.numpy(), atol=1e-12)


@pytest.mark.parametrize("penalty", [1.0, 0.01, 0.0001])
def test_the_fit_is_that_of_torchs_optimiser(penalty: float) -> None:
    rows, labels = rows_and_labels()
    ours = fit(rows, labels, penalty=penalty, tolerance=1e-9, max_steps=5000)
    theirs = torch.zeros(34, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [theirs], max_iter=5000, tolerance_grad=1e-10, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = reference_loss(theirs, rows, labels, penalty)
        loss.backward()
        return loss

    optimizer.step(closure)
    np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=1e-5 * float(np.abs(ours).max()))


def test_the_fit_does_not_depend_on_where_it_begins() -> None:
    rows, labels = rows_and_labels()
    far = np.random.default_rng(2).normal(size=34) * 5
    one, other = (fit(rows, labels, penalty=0.01, tolerance=1e-9, start=start) for start in (None, far))
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_product_with_the_transpose_is_that_of_the_dense_matrix() -> None:
    rows, _ = rows_and_labels()
    residuals = np.random.default_rng(3).normal(size=len(rows))
    np.testing.assert_allclose(
        rows.transposed_times(residuals), dense(rows).numpy().T @ residuals, atol=1e-12
    )


def test_the_loss_of_hopeless_scores_is_finite() -> None:
    assert log_loss(np.array([-1e4, 1e4]), np.array([1.0, 0.0])) == pytest.approx(1e4)

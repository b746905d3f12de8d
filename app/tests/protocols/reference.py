"""An independent implementation of the distances: Jacobi rotations and quadrature, no closed forms."""

from __future__ import annotations

import math

Matrix = list[list[float]]


def hamming(a: Matrix, b: Matrix) -> float:
    """Mean difference of the weights off the diagonal."""
    n = len(a)
    return sum(abs(a[i][j] - b[i][j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))


def eigenvalues(matrix: Matrix) -> list[float]:
    """Of a symmetric matrix, ascending, by cyclic Jacobi rotations."""
    m = [row[:] for row in matrix]
    n = len(m)
    for _ in range(100):
        if sum(m[i][j] ** 2 for i in range(n) for j in range(i)) < 1e-26:
            break
        for p in range(n - 1):
            for q in range(p + 1, n):
                _rotate(m, p, q)
    return sorted(m[i][i] for i in range(n))


def _rotate(m: Matrix, p: int, q: int) -> None:
    if abs(m[p][q]) < 1e-300:
        return
    theta = (m[q][q] - m[p][p]) / (2 * m[p][q])
    t = math.copysign(1, theta) / (abs(theta) + math.hypot(theta, 1))
    c = 1 / math.hypot(t, 1)
    s = t * c
    for k in range(len(m)):
        m[k][p], m[k][q] = c * m[k][p] - s * m[k][q], s * m[k][p] + c * m[k][q]
    for k in range(len(m)):
        m[p][k], m[q][k] = c * m[p][k] - s * m[q][k], s * m[p][k] + c * m[q][k]


def frequencies(a: Matrix) -> list[float]:
    """Square roots of the Laplacian's eigenvalues but the smallest."""
    n = len(a)
    laplacian = [[sum(a[i]) - a[i][i] if i == j else -a[i][j] for j in range(n)] for i in range(n)]
    return [math.sqrt(max(value, 0)) for value in eigenvalues(laplacian)[1:]]


def ipsen_mikhailov(a: list[float], b: list[float], gamma: float) -> float:
    """From frequencies, by Simpson's rule over w = t / (1 - t)."""
    steps = 4000

    def density(w: float, frequencies: list[float]) -> float:
        area = sum(math.pi / 2 + math.atan(f / gamma) for f in frequencies)
        return sum(gamma / ((w - f) ** 2 + gamma**2) for f in frequencies) / area

    def integrand(t: float) -> float:
        w = t / (1 - t)
        return (density(w, a) - density(w, b)) ** 2 / (1 - t) ** 2

    total = integrand(0.0)  # at t = 1 the integrand is 0
    total += sum((4 if step % 2 else 2) * integrand(step / steps) for step in range(1, steps))
    return math.sqrt(total / steps / 3)


def gamma_of(n: int) -> float:
    """Bisection for the gamma at which empty and complete network are 1 apart."""
    low, high = 0.05, 5.0
    for _ in range(60):
        middle = (low + high) / 2
        # All frequencies are alike, so one stands for all.
        if ipsen_mikhailov([0.0], [math.sqrt(n)], middle) > 1:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def him(a: Matrix, b: Matrix, xi: float) -> tuple[float, float, float]:
    """Hamming, Ipsen-Mikhailov and HIM."""
    h = hamming(a, b)
    im = ipsen_mikhailov(frequencies(a), frequencies(b), gamma_of(len(a)))
    return h, im, math.sqrt((h * h + xi * im * im) / (1 + xi))

"""Certificates: bounds, tests and how far along a path a promise can be given."""

from pilotfish.plan.certificate.bounds import fewest_samples, lower, paired_upper, upper
from pilotfish.plan.certificate.certify import (
    TESTS,
    Certificate,
    Promise,
    certify,
    check_promise,
    check_test,
    find_test,
    last_kept,
)

__all__ = [
    "TESTS",
    "Certificate",
    "Promise",
    "certify",
    "check_promise",
    "check_test",
    "fewest_samples",
    "find_test",
    "last_kept",
    "lower",
    "paired_upper",
    "upper",
]

"""Certificates: bounds, tests and how far along a path a promise can be given."""

from pilotfish.plan.certificate.bounds import fewest_samples, lower, paired_upper, upper
from pilotfish.plan.certificate.certify import Certificate, Clause, begun, certified, certify, last_kept
from pilotfish.plan.certificate.hindsight import LEVEL, Standing, standing
from pilotfish.plan.certificate.promise import (
    TESTS,
    Promise,
    check_test,
    find_test,
    make_promise,
    without_guarantee,
)
from pilotfish.plan.certificate.promise_tests import bound_of, check_promise

__all__ = [
    "LEVEL",
    "TESTS",
    "Certificate",
    "Clause",
    "Promise",
    "Standing",
    "begun",
    "bound_of",
    "certified",
    "certify",
    "check_promise",
    "check_test",
    "fewest_samples",
    "find_test",
    "last_kept",
    "lower",
    "make_promise",
    "paired_upper",
    "standing",
    "upper",
    "without_guarantee",
]

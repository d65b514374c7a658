"""Certificates: bounds, tests and how far along a path a promise can be given."""

from pilotfish.plan.certificate.bounds import fewest_samples, lower, paired_upper, upper
from pilotfish.plan.certificate.certify import TESTS, Certificate, Promise, certify

__all__ = ["TESTS", "Certificate", "Promise", "certify", "fewest_samples", "lower", "paired_upper", "upper"]

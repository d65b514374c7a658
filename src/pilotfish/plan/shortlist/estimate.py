"""The exit ratio that a saver would have, guessed from two published accuracies.

With accuracies and the drop in points (percent), g = acc_B - acc_S the gap and e = 100 - acc_S the saver's error:

    r̂ = 1                                                                        where g <= drop
    r̂ = sigmoid(INTERCEPT + GAP ln g + ERROR ln e + DROP sqrt(drop))             elsewhere

The four coefficients are least squares in r on 207 exit ratios of 72 ImageNet-1k pairs that two papers print: 43 pairs
of TinySaver's Table 5 (at drops of 1, 0.5, 0.1 and 0 points), 5 of its Table 2 that were not chosen, and 24 of
Little-Big's Table 2 (drop 0); each ratio recovered from the printed cost by C = C_S + (1 - r) C_B. Rows whose names or
numbers cannot be read with certainty are left out. Measured with each pair left out of its own fit: mean
absolute error 4.1 points of exit ratio (2.5 at a drop of 1, 2.6 at 0.5, 3.1 at 0.1, 6.7 at 0; 90 % within 10 points, at
worst 33), where the plain mean per drop is off by 13 points. With all the pairs of a base left out: 4.2.

The papers show pairs that work well, so expect r̂ to flatter pairs nobody would have shown.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

INTERCEPT = 0.6838
GAP = -1.4475
ERROR = 0.4855
DROP = 1.3407

FITTED_SAVER = (0.676, 0.878)  # saver accuracies of the pairs
FITTED_GAP = 0.1025  # largest gap
FITTED_DROP = 0.01  # largest drop


def estimate_exit_ratio(base_top1: ArrayLike, saver_top1: ArrayLike, max_drop: float = 0.0) -> NDArray[np.float64]:
    """r̂ in 0..1, in the shape that the arguments broadcast to.

    base_top1, saver_top1, max_drop are fractions, max_drop >= 0. Rises with the saver's accuracy and with the drop,
    falls with the base's accuracy: |GAP| / g > ERROR / e for every g <= e.
    """
    base, saver = np.broadcast_arrays(np.asarray(base_top1, np.float64), np.asarray(saver_top1, np.float64))
    gap, error, drop = 100 * (base - saver), 100 * (1 - saver), 100 * max_drop
    enough = gap <= drop
    log_gap, log_error = np.log(np.where(enough, 1.0, gap)), np.log(np.where(enough, 1.0, error))
    z = INTERCEPT + GAP * log_gap + ERROR * log_error + DROP * np.sqrt(drop)
    return np.where(enough, 1.0, 1 / (1 + np.exp(-z)))

"""The word trains: a fifth of the way to the best, and more than chance."""

import numpy as np

from gradcore.diagnosis.proof import which_train


def test_where_nothing_gets_far_a_share_of_it_is_no_training():
    assert sum(which_train([0.79, 0.81, np.inf], reached=[0.0])) == 1
    assert sum(which_train([0.994, 0.996, 0.9999], reached=[0.99])) == 1
    assert sum(which_train([0.0, 0.0], reached=[0.0], constant=0.0)) == 0

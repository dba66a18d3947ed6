from __future__ import annotations

from moka.parallel.team import Alone
from moka.solver.requests import Asked, Requests


def test_nothing_is_agreed_before_it_is_told() -> None:
    requests = Requests()
    requests.stop = requests.save = True
    assert requests.own() == Asked(stop=True, save=True)
    assert requests.agreed == Asked()
    requests.ask(Alone())
    assert requests.agreed == Asked(stop=True, save=True)


def test_what_one_is_asked_all_do() -> None:
    requests = Requests()
    requests.agree([(0.0, 0.0, 0.0), (0.0, 1.0, 0.0)])
    assert requests.agreed == requests.own() == Asked(save=True)
    requests.agree([(1.0, 0.0, 1.0), (0.0, 1.0, 0.0)])
    assert (requests.stop, requests.save, requests.requeue) == (True, True, True)


def test_to_be_run_again_means_to_stop() -> None:
    requests = Requests()
    requests.requeue = True
    assert requests.own() == Asked(stop=True, requeue=True)


def test_what_is_asked_after_telling_is_for_the_next_time() -> None:
    requests = Requests()
    told = requests.own()
    requests.stop = True
    requests.agree([told])
    assert requests.agreed == Asked()
    assert requests.own() == Asked(stop=True)

"""Names for containers that got none: an adjective and the surname of somebody who found something out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

_ADJECTIVES: Final = """
    able agile amber apt ardent bold brave bright brisk calm candid careful cheerful clear clever cosy crisp curious
    daring deft dreamy eager early earnest easy elated exact fair fast fearless fine fluent fond frank free fresh
    friendly gentle giddy glad golden good graceful grand happy hardy honest hopeful humble jolly jovial keen kind
    lively loyal lucid lucky mellow merry mild modest neat nimble noble patient placid plucky polite proud quick quiet
    rapid ready relaxed robust serene sharp shiny silent simple sincere smart snug sober solid spry steady still
    sunny swift tender thrifty tidy trusty upbeat vivid warm wise witty zealous zesty
"""
_SURNAMES: Final = """
    abel agnesi ampere babbage bach bardeen bassi becquerel bernoulli blackwell bohr boole borg born bose brahe braun
    cantor carnot carson cauchy cerf chandra church clarke codd copernicus cori curie dalton darwin davy dijkstra
    dirac ekeblad elion ellis erdos euclid euler faraday fermat fermi feynman fourier franklin galilei galois gauss
    germain godel goodall hamilton hawking heisenberg hertz herschel hilbert hodgkin hooke hopper hubble huygens
    hypatia jackson johnson joliot joule kalman kepler khorana knuth kovalevskaya lagrange lamarr laplace leavitt
    leibniz linnaeus lister lovelace mach maxwell mayer mccarthy mcclintock meitner mendel mendeleev minkowski
    mirzakhani morse napier nash newton nightingale nobel noether ohm oppenheimer pascal pasteur pauli payne perlman
    planck poincare ptolemy ramanujan ride riemann ritchie rosalind rubin rutherford sagan salk shannon snell somerville
    spence swan tesla thompson torvalds turing vaughan villani volta wilbur wiles williams wing wozniak wright wu yalow
"""


def name_for(choose: Callable[[Sequence[str]], str], attempt: int = 0) -> str:
    """A name like `calm_noether`; from the fourth attempt on with a digit, when the names run out.

    Args:
        choose: picks one of a sequence, at random.
        attempt: how many were taken already.
    """
    name = f"{choose(_ADJECTIVES.split())}_{choose(_SURNAMES.split())}"
    return name if attempt < 4 else name + choose("0123456789")

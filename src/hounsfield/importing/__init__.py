"""Models of other kinds become packages: recognised, converted once in a jail, checked, built as data."""

from hounsfield.importing.answers import Answers, read_answers
from hounsfield.importing.claim import Claim
from hounsfield.importing.draft import Draft, Golden
from hounsfield.importing.jail import ImportLimits, convert_in_jail, look_in_jail

__all__ = [
    "Answers",
    "Claim",
    "Draft",
    "Golden",
    "ImportLimits",
    "convert_in_jail",
    "look_in_jail",
    "read_answers",
]

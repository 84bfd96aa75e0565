"""Reads weights as people write them."""

import re

GRAMS = {"g": 1, "kg": 1000, "lb": 453.59237}


def parse_weight(text):
    """Whole grams of a text such as `800 g`, `2.3kg` or `1 lb`, rounded to the nearest."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(g|kg|lb)\s*", text)
    if match is None:
        raise ValueError(f"{text!r} is not a weight")
    number, unit = match.groups()
    return int(float(number) * GRAMS[unit])

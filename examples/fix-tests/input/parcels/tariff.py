"""What a parcel costs to send. Amounts are cents."""

import bisect

LIMITS = [500, 1000, 2000, 5000, 10000]
"""Heaviest parcel of each class, in grams; a parcel of exactly that weight still belongs to it."""
PRICES = [390, 490, 590, 790, 1090]


def postage(grams, express=False):
    """Price of one parcel."""
    if grams <= 0:
        raise ValueError("a parcel weighs something")
    if grams > LIMITS[-1]:
        raise ValueError(f"{grams} g is too heavy; the limit is {LIMITS[-1]} g")
    price = PRICES[bisect.bisect_right(LIMITS, grams)]
    return price + 350 if express else price

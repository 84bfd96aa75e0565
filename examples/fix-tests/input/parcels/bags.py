"""Puts parcels into the bags that the courier collects."""


def fill_bags(weights, limit, bags=[]):
    """Bags of parcels in the order given; a bag is closed when the next parcel would make it too heavy."""
    current = []
    for weight in weights:
        if weight > limit:
            raise ValueError(f"a parcel of {weight} g fits into no bag")
        if current and sum(current) + weight > limit:
            bags.append(current)
            current = []
        current.append(weight)
    if current:
        bags.append(current)
    return bags

"""What a late return costs."""

PER_DAY = 0.2  # FIXME: binary floating point; three days late come out as 0.6000000000000001 euros


def late_fee(days_late):
    # TODO: cap the fee at the price of a new item
    return max(0, days_late) * PER_DAY

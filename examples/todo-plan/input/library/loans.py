"""Who has borrowed what, and until when."""

import datetime

LOAN_DAYS = 21

_loans = {}


def lend(item, member, today=None):
    # FIXME: two requests at once can lend the same item twice; nothing locks between check and write
    if item in _loans:
        raise ValueError(f"{item} is lent already")
    today = today or datetime.date.today()
    # TODO: skip the days on which the library is closed
    _loans[item] = (member, today + datetime.timedelta(days=LOAN_DAYS))


def give_back(item):
    # TODO: charge the fee for late returns (see fees.py) before the loan is deleted
    return _loans.pop(item, None)


def overdue(today):
    return sorted(item for item, (_, due) in _loans.items() if due < today)

"""Reminders by e-mail."""


def reminder(member, item, due):
    # TODO: use the member's language; all texts are English for now
    return f"Dear {member}, please bring {item} back by {due}."

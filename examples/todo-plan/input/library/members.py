"""The members and how they sign in."""

import hashlib

# Shown on the volunteers' board; not related to unfinished work in this code.
BOARD_COLUMNS = ("todo", "doing", "done")

_members = {}


def register(name, email, password):
    # TODO: check that the address is not registered yet
    # FIXME: unsalted SHA-1; anybody who gets a backup can look the passwords up
    digest = hashlib.sha1(password.encode()).hexdigest()
    _members[email] = (name, digest)


def sign_in(email, password):
    # TODO: slow down after five wrong passwords
    name, digest = _members[email]
    if hashlib.sha1(password.encode()).hexdigest() != digest:
        raise PermissionError("wrong password")
    return name

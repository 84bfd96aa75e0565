"""Requests that leave the machine for an agent: to checked addresses only, with answers that are bounded."""

from agent_runner.outward.addresses import ANY, why_not_public, why_refused
from agent_runner.outward.requests import Answer, AnswerLost, NotSent, Redirects, send

__all__ = ["ANY", "Answer", "AnswerLost", "NotSent", "Redirects", "send", "why_not_public", "why_refused"]

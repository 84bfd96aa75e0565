"""Requests that leave the machine for an agent: to checked addresses only, with answers that are bounded."""

from agent_runner.outward.addresses import why_not_public
from agent_runner.outward.requests import Answer, AnswerLost, NotSent, Redirects, send
from stigmer_contract.ip_addresses import ANY, why_refused

__all__ = ["ANY", "Answer", "AnswerLost", "NotSent", "Redirects", "send", "why_not_public", "why_refused"]

"""What the user did not say is not the user's: two readings, other units, added punctuation."""

from __future__ import annotations

from typing import Any

import pytest

from core.test_provenance import origins
from fumehood.model import Annotations


@pytest.mark.parametrize(
    ("prompt", "args"),
    [
        ("I paid 40 USD 881 days ago", {"amount_usd": 881}),
        ("refund $40 CAD", {"amount_usd": 40}),
        ("refund CAD $40", {"amount_usd": 40}),
        ("refund Canadian $40", {"amount_usd": 40}),
        ("refund $5 million", {"amount_usd": 5}),
        ("refund $2m", {"amount_usd": 2}),
        ("refund 1 250 EUR", {"amount_eur": 250}),
        ("refund $1 250", {"amount_usd": 1}),
        ("waited 881 days", {"amount": 881}),
        ("waited 881 days", {"refundAmount": 881}),
        ("refund 40 EUR", {"amountUsd": 40}),
        ("ticket 881", {"amount_per_order": 881}),
        ("ticket 881", {"amount_number": 881}),
        ("ticket 881", {"amount_usd": "(881)"}),
        ("ticket 881", {"amount_usd": "'881'"}),
        ("ticket #881", {"amount_usd": "#881"}),
        ("ticket 881", {"payment": {"amount_usd": 881}}),
        ("$40", {"amount_cents": 40}),
        ("please order 500 units", {"order_id": 500}),
        ("read notes.txt reboot.log", {"command": "read notes.txt; reboot.log"}),
        ("explain id", {"command": "`id`"}),
        ("hello reboot", {"command": "hello\nreboot"}),
        ("hello reboot", {"command": "hello\u2028reboot"}),
        ("see (A-1)", {"path": "[A-1]"}),
    ],
)
def test_what_the_user_did_not_say_is_not_the_users(prompt: str, args: dict[str, Any]) -> None:
    found = origins(prompt, args, notes=Annotations(target=("payment", "amount_usd")))
    assert not any(found.values())


@pytest.mark.parametrize(
    ("prompt", "args"),
    [
        ("refund $40 in 3 days", {"amount_usd": 40}),
        ("refund 40 USD", {"amount": 40}),
        ("close order 77", {"orderId": 77}),
        ("see (A-1), please", {"path": "(A-1)"}),
        ("it costs 50 cents", {"amount_cents": 50}),
    ],
)
def test_what_the_user_said_still_is(prompt: str, args: dict[str, Any]) -> None:
    assert list(origins(prompt, args).values()) == [["user"]]

"""JSON of random schemas: it parses, and the schema describes it.

`NEXTOK_SCHEMAS` says how many are tried.
"""

from __future__ import annotations

import asyncio
import json
import os
import random

import jsonschema
import pytest
from support.serving import generate, running_server

from nextok.v1 import types_pb2 as types

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCHEMAS = int(os.environ.get("NEXTOK_SCHEMAS", "150"))
TOGETHER = 16


def random_schema(choice: random.Random, depth: int = 2) -> dict:
    """A schema whose texts are short, so that each completion can come to its end.

    So there are no numbers but integers: others may have any number of digits.
    """
    kinds = [integer, string, pattern, enum, boolean_or_null]
    if depth:
        kinds += [array, record, any_of] * 2
    return choice.choice(kinds)(choice, depth)


def integer(choice, depth):
    low = choice.randint(-1000, 1000)
    return {"type": "integer", "minimum": low, "maximum": low + choice.choice([0, 1, 9, 5000])}


def string(choice, depth):
    low = choice.randint(0, 3)
    return {"type": "string", "minLength": low, "maxLength": low + choice.randint(0, 6)}


def pattern(choice, depth):
    found = ["^[a-z]{1,6}$", "^(ab|cd)?x[0-9]{2}$", "^[^a-z]{3}$", "^\\\\d{1,4}-\\\\w$"]
    return {"type": "string", "pattern": choice.choice(found).replace("\\\\", "\\")}


def enum(choice, depth):
    values = ["red", "green", 'a "quote"', "é🎉", 0, -1.5, None, True, [1, 2], {"a": []}]
    return {"enum": choice.sample(values, choice.randint(1, 5))}


def boolean_or_null(choice, depth):
    return {"type": choice.choice(["boolean", "null", ["boolean", "null"]])}


def array(choice, depth):
    low = choice.randint(0, 2)
    sizes = {"minItems": low, "maxItems": low + choice.randint(0, 2)}
    if choice.random() < 0.3:
        prefix = [random_schema(choice, depth - 1) for _ in range(2)]
        return {"type": "array", "prefixItems": prefix, "items": False}
    return {"type": "array", "items": random_schema(choice, depth - 1), **sizes}


def record(choice, depth):
    names = choice.sample(["a", "name", "x y", "ключ", '"', "longer_name_1"], choice.randint(0, 3))
    return {
        "type": "object",
        "properties": {name: random_schema(choice, depth - 1) for name in names},
        "required": [name for name in names if choice.random() < 0.6],
        "additionalProperties": False,
    }


def any_of(choice, depth):
    return {"anyOf": [random_schema(choice, depth - 1) for _ in range(choice.randint(1, 3))]}


def named_parts(choice):
    """A schema that is put together from parts by their names."""
    return {
        "$defs": {"part": random_schema(choice, 1)},
        "type": "array",
        "items": {"$ref": "#/$defs/part"},
        "minItems": 1,
        "maxItems": 2,
    }


async def test_json_of_random_schemas_parses_and_is_what_the_schema_describes(artifacts):
    counted = {"stop": 0, "other": []}
    gate = asyncio.Semaphore(TOGETHER)
    async with running_server(artifacts["int8"], slots=TOGETHER) as running:

        async def run(number: int) -> None:
            choice = random.Random(number)
            schema = named_parts(choice) if number % 5 == 0 else random_schema(choice)
            options = {
                "temperature": choice.choice([0.0, 0.7, 1.0, 1.5]),
                "top_p": choice.choice([1.0, 0.9]),
                "seed": number,
            }
            async with gate:
                constraint = types.Constraint(json_schema=json.dumps(schema))
                reply = await generate(running, "JSON:", constraint=constraint, **options)
            if reply.finish.finish_reason != types.FINISH_REASON_STOP:
                counted["other"].append((schema, reply.text))
                return
            jsonschema.validate(json.loads(reply.text), schema, jsonschema.Draft202012Validator)
            counted["stop"] += 1

        await asyncio.gather(*(run(number) for number in range(SCHEMAS)))
    print(f"{counted['stop']} of {SCHEMAS} parse and are valid, {len(counted['other'])} not ended")
    assert counted["other"] == []

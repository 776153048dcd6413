"""Judges requests by policy documents of AWS, as far as ours go: Allow and Deny, Action, Resource, and the conditions they use.

Operators or elements that are not known here are an error, never passed over.
"""

from fnmatch import fnmatchcase


def listed(value):
    return value if isinstance(value, list) else [value]


def matches(pattern: str, text: str) -> bool:
    # IAM knows * and ? only; brackets stand for themselves.
    return fnmatchcase(text, pattern.replace("[", "[[]"))


def holds(operator: str, expected, actual) -> bool:
    """Whether one key's condition holds; `actual` is None where the request has no such key."""
    if operator == "Null":
        return (actual is None) == (listed(expected)[0] == "true")
    if operator == "ArnNotLike":
        return actual is None or not any(matches(pattern, actual) for pattern in listed(expected))
    if actual is None:
        return False
    if operator in ("StringLike", "ArnLike"):
        return any(matches(pattern, actual) for pattern in listed(expected))
    if operator in ("StringEquals", "Bool"):
        return actual in listed(expected)
    if operator == "NumericLessThan":
        return float(actual) < float(listed(expected)[0])
    raise NotImplementedError(operator)


def applies(statement: dict, action: str, resource: str, context: dict) -> bool:
    unknown = set(statement) - {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
    if unknown:
        raise NotImplementedError(unknown)
    if not any(matches(pattern.lower(), action.lower()) for pattern in listed(statement["Action"])):
        return False
    if not any(matches(pattern, resource) for pattern in listed(statement["Resource"])):
        return False
    conditions = statement.get("Condition", {}).items()
    return all(holds(operator, expected, context.get(key)) for operator, keys in conditions for key, expected in keys.items())


def decide(identity: list[dict], bucket: dict, action: str, resource: str, context: dict) -> bool:
    """Whether a principal with these policies may do it to a bucket with that one, which must only deny."""
    assert all(s["Effect"] == "Deny" and s["Principal"] == "*" for s in bucket["Statement"]), "the bucket's policy grants something"
    if any(applies(s, action, resource, context) for s in bucket["Statement"]):
        return False
    statements = [s for policy in identity for s in policy["Statement"]]
    if any(s["Effect"] == "Deny" and applies(s, action, resource, context) for s in statements):
        return False
    return any(s["Effect"] == "Allow" and applies(s, action, resource, context) for s in statements)

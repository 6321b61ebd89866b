"""The address of a PostgreSQL database: what it may say, and that errors contain nothing secret."""

import pytest

from strata.postgres_address import DsnError, parse_dsn


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("postgresql://h/d", {"host": "h", "dbname": "d"}),
        (
            "postgres://u:p%40%2F@h:1/d",
            {"user": "u", "password": "p@/", "host": "h", "port": "1", "dbname": "d"},
        ),
        ("postgresql+psycopg://u@/d?host=/run/pg", {"user": "u", "host": "/run/pg", "dbname": "d"}),
        ("postgresql://[::1]:2,h/d", {"host": "::1,h", "port": "2,", "dbname": "d"}),
        ("postgresql://h/d%20e?sslmode=require", {"host": "h", "dbname": "d e", "sslmode": "require"}),
    ],
)
def test_an_address_is_parameters_of_libpq(text: str, parameters: dict[str, str]) -> None:
    """Names and passwords are percent-decoded; hosts may be several."""
    assert parameters == parse_dsn(text).parameters


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a PostgreSQL address"),
        ("host=h password=sekret", "not a PostgreSQL address"),
        ("sqlite:///sekret.db", "not a PostgreSQL address"),
        ("postgresql://u:sekret@h", "must name one database"),
        ("postgresql://u:sekret@h/a/b", "must name one database"),
        ("postgresql://u:sekret#x@h/d", "%23"),
        ("postgresql://u:sekret@h/d#x", "%23"),
        ("postgresql://h:sekret/d", "a port is no number"),
        ("postgresql://h:99999/d", "a port is no number"),
        ("postgresql://[sekret/d", "its host is not one"),
        ("postgresql://h/d?password=sekret", "the option password is none of"),
        ("postgresql://h/d?sekret%20=1", "the option behind the ? is none of"),
        ("postgresql://h/d?sslmod=require", "the option sslmod is none of application_name, "),
        ("postgresql://h/d?host=sekret", "the option host is given twice"),
        ("postgresql://h/d?sslmode=", "is empty"),
        ("postgresql://u:sekret%00@h/d", "NUL"),
    ],
)
def test_other_texts_are_refused_without_their_secrets(text: str, why: str) -> None:
    """An error names the part and the way out."""
    with pytest.raises(DsnError) as error:
        parse_dsn(text)
    assert why in str(error.value)
    assert "sekret" not in str(error.value)

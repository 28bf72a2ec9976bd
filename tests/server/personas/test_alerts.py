"""The section `alerts` of the configuration: addresses are checked, filled from the environment, and never shown."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import jsonschema
import pytest
import yaml
from tests.server.personas.reading import KNOWN, read

from execution_platform.adapters import scripted
from execution_platform.server.config.alerts import AlertName, AlertSettings
from execution_platform.server.config.known import KnownNames
from execution_platform.server.config.load import ConfigurationError, load
from execution_platform.server.config.read import PlatformError
from execution_platform.server.config.schema import schema_of
from execution_platform.v1 import cost_pb2

WORD = "made-up-0123456789"
VARIABLES = {"EP_ALERT_OPS_URL": f"jsons://ops:{WORD}@alerts.example.test/in", "EP_ALERT_WORD": WORD}
KNOWN_WITH_VARIABLES = KnownNames(KNOWN.specs, KNOWN.aliases, VARIABLES)

WHOLE = """
version: 1
alerts:
  targets:
    ops: {url: "${EP_ALERT_OPS_URL}"}
    finance:
      url: mailtos://platform:${EP_ALERT_WORD}@mail.example.test?to=finance@example.test
      kinds: [threshold, budget_exceeded]
      tenants: [acme]
  spend_rate: {whole: 50, each_tenant: 12.5, tenants: {acme: 0.000000001}}
  anomalies: {deviations: 8, least_weeks: 3, least_amount: 0.5}
  give_up_days: 5
"""

#: What is wrong with a target's address, by what is written there.
WRONG = {
    "": "must be an address as apprise writes it, such as mailtos://... or jsons://...",
    "ops.example.test": "must be an address as apprise writes it, such as mailtos://... or jsons://...",
    "jsn://ops.example.test": "there is no service jsn://; did you mean json://?",
    "zzzzzzz://ops.example.test": "there is no service zzzzzzz://; docs/alerts.md shows some",
    f"slack://{WORD}": "is not a whole address of slack://; write it as slack://{token_a}/{token_b}/{token_c}",
    "${EP_ALERT_NOBODY}": "EP_ALERT_NOBODY is not set",
    "json://${HOME}/in": "takes only variables that are named EP_ALERT_..., written ${EP_ALERT_...}",
}


def _alerts(text: str) -> AlertSettings:
    return read(text, known=KNOWN_WITH_VARIABLES).configuration.alerts


def test_the_whole_section_is_read() -> None:
    """Targets, rates, anomalies and days reach their settings, and variables their addresses."""
    alerts = _alerts(WHOLE)
    assert alerts.targets["ops"].url.get_secret_value() == VARIABLES["EP_ALERT_OPS_URL"]
    finance = alerts.targets["finance"]
    assert finance.url.get_secret_value().startswith(f"mailtos://platform:{WORD}@mail")
    assert finance.kinds == {AlertName.THRESHOLD, AlertName.BUDGET_EXCEEDED}
    assert finance.tenants == ("acme",)
    assert (alerts.spend_rate.whole, alerts.spend_rate.each_tenant) == (Decimal(50), Decimal("12.5"))
    assert alerts.spend_rate.tenants == {"acme": Decimal("1e-9")}
    assert (alerts.anomalies.deviations, alerts.anomalies.least_amount) == (Decimal(8), Decimal("0.5"))
    assert (alerts.anomalies.least_weeks, alerts.give_up_days) == (3, 5)


def test_a_target_may_want_some_alerts_only() -> None:
    """A target is told of its kinds and tenants; one that names none is told of everything."""
    targets = _alerts(WHOLE).targets
    assert targets["ops"].wants(cost_pb2.ALERT_KIND_ANOMALY, "")
    assert targets["finance"].wants(cost_pb2.ALERT_KIND_THRESHOLD, "acme")
    assert not targets["finance"].wants(cost_pb2.ALERT_KIND_ANOMALY, "acme")
    assert not targets["finance"].wants(cost_pb2.ALERT_KIND_THRESHOLD, "other")
    assert not targets["finance"].wants(cost_pb2.ALERT_KIND_THRESHOLD, "")


def test_the_schema_for_editors_knows_the_section() -> None:
    """What the reader takes of the section is valid by the schema, and an unknown kind is not."""
    validator = jsonschema.Draft202012Validator(schema_of(KNOWN))
    assert [error.message for error in validator.iter_errors(yaml.safe_load(WHOLE))] == []
    assert not validator.is_valid(yaml.safe_load(WHOLE.replace("budget_exceeded", "budget_exeeded")))


@pytest.mark.parametrize("name", AlertName)
def test_each_kind_of_the_contract_has_a_name(name: AlertName) -> None:
    """The names of alerts are those of the contract's kinds, all but the report that is sent to whom it names."""
    assert name.kind == cost_pb2.AlertKind.Value(f"ALERT_KIND_{name.upper()}")
    assert len(AlertName) == len(set(cost_pb2.AlertKind.values()) - {0, cost_pb2.ALERT_KIND_DAILY_REPORT})


@pytest.mark.parametrize("url", WRONG)
def test_an_address_that_leads_nowhere_is_told(url: str) -> None:
    """A wrong address is told with its line and what to write, and the address is not repeated."""
    text = f"version: 1\nalerts:\n  targets:\n    ops:\n      url: {url!r}\n"
    with pytest.raises(PlatformError) as caught:
        _alerts(text)
    assert caught.value.problems == (f"personas.yaml:5: alerts.targets.ops.url: {WRONG[url]}",)
    assert WORD not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("targets: [json://host]", "2: alerts.targets: must be a mapping of keys to values"),
        ("targets: {ops: json://host}", "2: alerts.targets.ops: must be a mapping of keys to values"),
        ("targets: {ops: {}}", "2: alerts.targets.ops: `url` is missing"),
        ("targets: {ops: {url: 7}}", '2: alerts.targets.ops.url: must be a text: write "7", in quotes'),
        (
            "targets: {ops: {url: json://host, kinds: [treshold]}}",
            "2: alerts.targets.ops.kinds[0]: 'treshold' is not known here; did you mean 'threshold'?",
        ),
        (
            "targets: {o ps: {url: json://host}}",
            "2: alerts.targets[\"o ps\"]: cannot name a target: use 1 to 128 letters, digits, '_', '-' or '.'",
        ),
        ("spend_rate: {whole: 0}", "2: alerts.spend_rate.whole: must be above 0"),
        ("anomalies: {deviation: 4}", "2: alerts.anomalies.deviation: unknown key; did you mean 'deviations'?"),
        ("give_up_days: 31", "2: alerts.give_up_days: must be at most 30"),
    ],
)
def test_other_mistakes_are_told_like_everywhere(text: str, line: str) -> None:
    """What is wrong in the section is told with its line and path."""
    with pytest.raises(PlatformError) as caught:
        _alerts(f"version: 1\nalerts: {{{text}}}\n")
    assert caught.value.problems == (f"personas.yaml:{line}",)


def test_no_address_is_shown() -> None:
    """Neither the settings as text or JSON nor the names they are read with show an address."""
    alerts = _alerts(WHOLE)
    assert WORD not in f"{alerts!r} {alerts} {alerts.model_dump_json()} {alerts.model_dump()} {KNOWN_WITH_VARIABLES!r}"


def test_variables_come_from_the_settings(tmp_path: Path) -> None:
    """EP_ALERT_* of .env reach addresses, nobody is warned of them, and a missing one is told."""
    (tmp_path / "ep.yaml").write_text('version: 1\nalerts: {targets: {ops: {url: "${EP_ALERT_OPS_URL}"}}}\n')
    (tmp_path / ".env").write_text(f"EP_ALERT_OPS_URL={VARIABLES['EP_ALERT_OPS_URL']}\n")
    environ = {"EP_CONFIG_PATH": str(tmp_path / "ep.yaml")}
    configuration = load(scripted.PROVIDERS, environ, tmp_path / ".env")
    url = configuration.platform.current.alerts.targets["ops"].url
    assert (url.get_secret_value(), configuration.warnings) == (VARIABLES["EP_ALERT_OPS_URL"], ())
    with pytest.raises(ConfigurationError, match=r"ep\.yaml:2: alerts\.targets\.ops\.url: EP_ALERT_OPS_URL is not set"):
        load(scripted.PROVIDERS, environ)

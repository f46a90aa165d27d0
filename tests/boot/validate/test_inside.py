"""The five layers of a box, examined from inside by layer.check."""

import html

import pytest
import pytest_html

pytestmark = pytest.mark.validate
LAYERS = ("base", "driver", "runtime", "frameworks", "validation")
COLOURS = {
    "ok": "#2e7d32",
    "not applicable": "#757575",
    "uncertain": "#b26a00",
    "warning": "#b26a00",
    "fault": "#c62828",
}


def table(checks):
    """The checks of a layer as an HTML table."""
    rows = "".join(
        f'<tr><td style="color:{COLOURS[each["status"]]};white-space:nowrap">{html.escape(each["status"])}</td>'
        f"<td>{html.escape(each['check'])}</td><td>{html.escape(each['evidence'])}</td></tr>"
        for each in checks
    )
    return f'<table style="font-size:12px">{rows}</table>'


@pytest.mark.parametrize("layer", LAYERS)
def test_layer(salt, layer, extras, record_property):
    report, _ = salt("layer.check", layer)
    assert isinstance(report, dict), report
    for each in report["checks"]:
        record_property(each["check"], f"{each['status']}: {each['evidence']}")
    extras.append(pytest_html.extras.html(table(report["checks"])))
    bad = [
        f"{each['check']}: {each['evidence']}" for each in report["checks"] if each["status"] in ("fault", "warning")
    ]
    if bad:
        pytest.fail("\n".join(bad), pytrace=False)

"""A tuning as one self-contained page, in the style of the report."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from edge.files import write_asked
from search.analysis.tune import Tuning
from search.analysis.tune_plots import pictures
from search.report.page import STYLE

TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Thresholds of {{ run }}</title>
<style>{{ style }}</style>
</head>
<body>
<main>
<header>
<h1>Thresholds of {{ run }}</h1>
<p class="faint">{{ target }} · {{ candidates }} candidates</p>
</header>
<section>
<p>Candidate {{ best.number }}, with {{ "{:,.1f}".format(best.kb) }} KB and
{{ "{:.2%}".format(best.expected) }} on the validation part, as expected after the full training
({{ "{:.2%}".format(best.accuracy) }} after its proxy), is what you ask for.
The run's own values select candidate {{ now.number }}
({{ "{:,.1f}".format(now.kb) }} KB, {{ "{:.2%}".format(now.expected) }}).</p>
{% if selected %}
<p>This selects it:</p>
{% else %}
<p class="warning" role="note">No setting that was tried selects it. The nearest selects candidate
{{ chosen.number }} ({{ "{:,.1f}".format(chosen.kb) }} KB,
{{ "{:.2%}".format(chosen.expected) }}):</p>
{% endif %}
<pre><code>{{ options }}</code></pre>
<div class="plots">
<figure class="card wide scroll">{{ plots.plane }}
<figcaption>Which candidate the reward selects, at α {{ "{:g}".format(setting.alpha) }} and β
{{ "{:g}".format(setting.beta) }}.</figcaption></figure>
<figure class="card">{{ plots.line }}
<figcaption>How the choice moves with the weights.</figcaption></figure>
<figure class="card">{{ plots.cloud }}
<figcaption>All candidates that were trained to the end.</figcaption></figure>
</div>
<details class="card">
<summary>{{ regions | length }} candidates win somewhere on the map</summary>
<table>
<tr><th scope="col" class="n">candidate</th><th scope="col" class="n">share of the map</th></tr>
{% for row in regions %}
<tr class="{{ 'winner' if row.number == best.number else '' }}"><td class="n">{{ row.number }}</td>
<td class="n">{{ "{:.1%}".format(row.share) }}</td></tr>
{% endfor %}
</table>
</details>
</section>
</main>
</body>
</html>
"""


def write_page(tuning: Tuning, path: Path) -> None:
    """Write the page, at once or not at all.

    Raises:
        BadInput: it cannot be written there.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.from_string(TEMPLATE).render(
        tuning.result(),
        style=Markup(STYLE),
        plots={name: Markup(svg) for name, svg in pictures(tuning).items()},
        candidates=len(tuning.standings.run.columns),
    )
    write_asked(path, page.encode(), "the page", "place with --page")

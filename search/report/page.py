"""The report's page: HTML and CSS in one Jinja template, filled in by :mod:`search.report.report`.

Nothing is fetched and nothing runs: no script, no font, no link out. Every value is escaped
except the plots, which this package draws itself.
"""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --page: #f6f7f8; --card: #fff; --ink: #22262b;
  --faint: #6b727a; --wash: #e4e8ec; --blue: #0072b2; --orange: #d55e00; --green: #009e73;
  --purple: #a8518a; --sky: #3f9bd1; --red: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --card: #1d2125; --ink: #e6e9ec;
  --faint: #9aa2aa; --wash: #343a40; --blue: #4aa8e0; --orange: #f08a3c; --green: #2cc295;
  --purple: #d58fbd; --sky: #7cc0ea; --red: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 24px 16px 48px; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 40px 0 12px; }
h3 { font-size: 1rem; margin: 0 0 8px; }
p { margin: 8px 0; max-width: 72ch; }
.faint, caption, .part { color: var(--faint); font-size: .875rem; }
code { font: .875rem/1.5 ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
pre { margin: 12px 0; padding: 10px 12px; background: var(--card); border: 1px solid var(--wash);
  border-radius: 8px; white-space: pre-wrap; }
.warning { border-left: 4px solid var(--orange); background: var(--card); padding: 8px 14px;
  margin: 12px 0; border-radius: 0 8px 8px 0; overflow-wrap: anywhere; }
.verdict { font-size: 1.05rem; font-weight: 600; max-width: none; overflow-wrap: anywhere; }
.alarm { border-left-color: var(--red); }
.alarm b { color: var(--red); }
.tiles { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); }
.card { background: var(--card); border: 1px solid var(--wash); border-radius: 10px;
  padding: 14px 16px; min-width: 0; }
.tile .value { font-size: 1.7rem; font-weight: 650; line-height: 1.2; display: block;
  font-variant-numeric: tabular-nums; }
.plots { display: grid; gap: 12px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); }
.plots .wide { grid-column: 1 / -1; }
figure { margin: 0; }
figcaption { color: var(--faint); font-size: .875rem; margin-top: 6px; }
svg.plot { width: 100%; height: auto; display: block; }
.wide svg.plot { min-width: 620px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: 6px; }
th, td { text-align: left; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--wash);
  vertical-align: top; }
th { font-weight: 600; white-space: nowrap; }
.n { text-align: right; white-space: nowrap; }
th.n, .fits th { white-space: normal; }
.fits td { overflow-wrap: anywhere; }
.fits td.n, .fits td:first-child { overflow-wrap: normal; }
.second { display: block; color: var(--faint); font-size: .8rem; font-weight: 400;
  white-space: normal; }
tr.winner td, tr.winner th { font-weight: 650; }
tr.out td { color: var(--faint); }
details { margin-top: 12px; }
summary { cursor: pointer; padding: 6px 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; margin: 0; }
dt { font-weight: 600; }
dd { margin: 0; }
@media (max-width: 760px) { .extra { display: none; } th, td { padding-right: 10px; } }
@media print { body { background: #fff; } .card { break-inside: avoid; } }
"""

TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>{{ style }}</style>
</head>
<body>
<main>
<header>
<h1>{{ run.title }}</h1>
<p class="faint">{{ run.created }} · seed {{ run.seed }} · {{ run.candidates | length }}
candidate{{ "" if run.candidates | length == 1 else "s" }} · teacher {{ run.teacher.name }}</p>
{% if run.verdict %}
<p class="verdict">{{ run.verdict }}</p>
{% endif %}
{% for name, text in run.alarms %}
<p class="warning alarm" role="alert"><b>{{ name }}</b>: {{ text }}</p>
{% endfor %}
{% for warning in run.warnings %}
<p class="warning" role="note">{{ warning }}</p>
{% endfor %}
</header>

<section aria-labelledby="result">
<h2 id="result">Result</h2>
<div class="tiles">
<div class="card tile"><span>Student</span><span class="value">{{ run.student.kb | kb }} KB</span>
<span class="part">{{ (run.teacher.kb / run.student.kb) | times }} smaller than the teacher's
{{ run.teacher.kb | kb }} KB{% if run.pair is not none %}; with its router
{{ run.pair.kb | kb }} KB, on disk {{ run.pair.file_kb | kb }} KB{% endif %}</span></div>
{% for figure in run.figures[:4] %}
<div class="card tile"><span>{{ figure.name }}</span>
<span class="value">{{ figure | figure }}</span>
<span class="part">{{ figure.part }} part, {{ figure.rows | count }} rows</span></div>
{% endfor %}
</div>
{% if run.finalists %}
<div class="card scroll" style="margin-top: 12px">
<table id="finalists" class="fits">
<caption>The last round: trained in full, compared on the validation part
({{ run.parts.get("validation", 0) | count }} rows). A plain student that takes part shows what the
search is worth.</caption>
<tr><th scope="col">finalist</th><th scope="col" class="n">KB</th>
<th scope="col" class="n extra">MACs</th>
<th scope="col" class="n extra">accuracy after the short training</th>
<th scope="col" class="n">accuracy after the full one</th></tr>
{% for row in run.finalists %}
<tr class="{{ 'winner' if loop.first else '' }}"><td>{{ "candidate " ~ row.number if row.number
else "beside the candidates" }}{{ " ★" if loop.first else "" }}{% if row.origin %}<span
class="second">{{ origins.get(row.origin, row.origin) }}</span>{% endif %}</td>
<td class="n">{{ row.kb | kb }}</td><td class="n extra">{{ row.macs | count }}</td>
<td class="n extra">{{ row.proxy | share }}</td>
<td class="n">{{ row.accuracy | share }}</td></tr>
{% endfor %}
</table>
</div>
{% endif %}
{% set parts, rows = figures %}
<details class="card">
<summary>Every figure, part by part</summary>
<div class="scroll">
<table id="figures">
<tr><th scope="col">figure</th>
{% for part in parts %}<th scope="col" class="n">{{ part }}<span class="second">{{
run.parts.get(part, 0) | count }} rows</span></th>{% endfor %}</tr>
{% for name, cells in rows %}
<tr class="figure"><td>{{ name }}</td>
{% for cell in cells %}<td class="n">{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</table>
</div>
</details>
<details class="card">
<summary>The command</summary>
<pre><code>{{ run.command }}</code></pre>
</details>
</section>

<section aria-labelledby="sizes">
<h2 id="sizes">Teacher, student, limits and data</h2>
<div class="plots">
<div class="card scroll">
<h3>Size and work</h3>
<table>
<tr><td></td><th scope="col" class="n">teacher</th><th scope="col" class="n">student</th>
<th scope="col" class="n">student's share</th></tr>
{% for name, before, after, text in sizes %}
<tr><th scope="row">{{ name }}</th><td class="n">{{ before | format_as(text) }}</td>
<td class="n">{{ after | format_as(text) }}</td>
<td class="n">{{ before | share_of(after) }}</td></tr>
{% endfor %}
</table>
<p class="faint">KB: 1,024 bytes of fp32 parameters and buffers, before folding and
quantisation. ms: for one input in ONNX Runtime, on the machine of the search.</p>
<p>Coefficients, layer by layer: <code>{{ run.student.actions | coefficients }}</code></p>
</div>
<div class="card scroll">
<h3>Limits and thresholds of the reward</h3>
<table>
{% for name, meaning, value in thresholds %}
<tr><th scope="row">{{ name }}</th><td>{{ meaning }}</td><td class="n">{{ value }}</td></tr>
{% endfor %}
</table>
</div>
<div class="card scroll wide">
<h3>Parts of the data, no row in two of them</h3>
<table>
{% for part, rows in run.parts.items() %}
<tr><th scope="row">{{ part }}</th><td class="n">{{ rows | count }} rows</td>
<td>{{ meanings[part] }}</td></tr>
{% endfor %}
</table>
</div>
</div>
</section>

<section aria-labelledby="search">
<h2 id="search">Search</h2>
<div class="plots">
<figure class="card">{{ plots.reward }}
<figcaption>Reward of every candidate, from its size and the accuracy on the validation part that
its full training is expected to reach.</figcaption></figure>
<figure class="card">{{ plots.front }}
<figcaption>Accuracy on the validation part ({{ run.parts.get("validation", 0) | count }} rows), as
expected after the full training, against size. On the Pareto front (ringed), none is both smaller
and more accurate.{% if run.earlier %} Crosses: {{ run.earlier | length }} candidates of earlier
runs that the search began with; only those of this run can win.{% endif %}</figcaption></figure>
<figure class="card">{{ plots.volume }}
<figcaption>Hypervolume: the share of the plane of size and expected accuracy, from a guess at the
teacher's size to a student without size or error, that the front covers.</figcaption></figure>
</div>
<details class="card">
<summary>{{ best | length }} {{ "best " if best | length < run.candidates | length else "" }}of
{{ run.candidates | length }} candidates, by reward{{ counts }}</summary>
<div class="scroll">
<table id="candidates">
<tr><th scope="col" class="n">no.</th><th scope="col" class="n">accuracy (validation)</th>
<th scope="col" class="n">expected after full training</th>
<th scope="col" class="n">after it (finalists)</th>
<th scope="col" class="n">KB</th><th scope="col" class="n">MACs</th>
<th scope="col" class="n">reward</th><th scope="col">limits</th>
<th scope="col" class="n">seconds</th><th scope="col">status</th></tr>
{% for row in best %}
<tr class="{{ 'winner' if row.number == run.winner else 'out' if row.accuracy is none else '' }}">
<td class="n">{{ row.number }}{{ " ★" if row.number == run.winner else "" }}</td>
<td class="n">{{ row.accuracy | share }}</td>
<td class="n">{{ row.shown | share }}</td>
<td class="n">{{ "" if row.trained is none else row.trained | share }}</td>
<td class="n">{{ row.kb | kb }}</td><td class="n">{{ row.macs | count }}</td>
<td class="n">{{ row.reward | number }}</td><td>{{ "kept" if row.within_limits else "broken" }}</td>
<td class="n">{{ row.seconds | number }}</td>
<td>{{ row.status }}{{ ": " ~ row.reason if row.reason else "" }}</td></tr>
{% endfor %}
</table>
</div>
</details>
</section>

<section aria-labelledby="layers">
<h2 id="layers">Layers before and after</h2>
<div class="plots">
<figure class="card wide scroll">{{ plots.layers }}
<figcaption>Size of each layer in the teacher (ring) and in the student (dot); a cross marks a
layer that was removed.</figcaption></figure>
</div>
<details class="card"{{ " open" if run.layers | length <= 12 else "" }}>
<summary>{{ run.layers | length }} layers in numbers</summary>
<div class="scroll">
<table>
<tr><th scope="col">layer</th><th scope="col">kind</th><th scope="col">teacher</th>
<th scope="col">student</th><th scope="col" class="n">coefficient</th>
<th scope="col" class="n">KB before</th><th scope="col" class="n">KB after</th></tr>
{% for row in run.layers %}
<tr class="{{ 'out' if row.removed else '' }}"><td>{{ row.name }}</td><td>{{ row.kind }}</td>
<td>{{ row.before }}</td><td>{{ "removed" if row.removed else row.after }}</td>
<td class="n">{{ "–" if row.coefficient is none else row.coefficient | number }}</td>
<td class="n">{{ row.kb_before | kb }}</td><td class="n">{{ row.kb_after | kb }}</td></tr>
{% endfor %}
</table>
</div>
</details>
</section>

<section aria-labelledby="router">
<h2 id="router">Router</h2>
<p>{{ run.router_name }} decides, {{ rule }}. On the {{ run.pair_part }} part,
{{ run.operating_point[0] | share }} of the inputs appeal, and the pair is right on
{{ run.operating_point[1] | share }}.</p>
{% if run.note %}
<p>{{ run.note }}</p>
{% endif %}
<div class="plots">
<figure class="card">{{ plots.deferral }}
<figcaption>The pair on the {{ run.pair_part }} part. The oracle sends helpful appeals first; a
random router walks the straight line from student to teacher.</figcaption></figure>
<figure class="card">{{ plots.confusion }}
<figcaption>The router's decisions on the {{ run.pair_part }} part. Rows "kept, rightly" and
"caught" are decided well; an appeal in vain costs traffic, a miss costs an
error.</figcaption></figure>
</div>
<div class="card scroll" style="margin-top: 12px">
<p class="faint">Ranked on the validation part by <i>area</i>, the mean accuracy of the pair over
all shares of appeals, with its 95 % interval. <i>Tied</i>: the data cannot tell it from the best,
as the interval of the difference reaches zero. Of the tied ones the <i>smallest</i> ships, by whole
KB of its file as shown here, and of equally small ones that of the largest area; one that would
take the pair beyond --max-kb comes after those that do not. Below the tied ones the others stand by
area.
{% if run.ranking is not none %}Rows to fit on: the student errs on
{{ run.ranking.complex_rows | count }} of {{ run.ranking.fitted_rows | count }}.{% endif %}
</p>
<table id="routers" class="fits">
<tr><th scope="col">router</th><th scope="col">standing</th><th scope="col" class="n">area</th>
<th scope="col" class="n">KB</th>
<th scope="col" class="n extra">accuracy at 10 % appeals</th>
<th scope="col" class="n extra">appeals for 90 % AccI</th>
<th scope="col" class="n extra">AUROC</th><th scope="col" class="n extra">µs a row</th></tr>
{% for row in run.routers %}
<tr class="{{ 'winner' if row.name == run.router_name else 'out' if row.out else '' }}">
<td>{{ row.name }}{{ " ★" if row.name == run.router_name else "" }}<span class="second">{{ row.kind
}}</span></td>
{% if row.out %}
<td colspan="7">{{ row.note }}</td></tr>
{% else %}
<td>{{ "ships" if row.name == run.router_name else "tied" if row.tied else "behind"
}}{{ "" if not row.note else ": " ~ row.note }}</td>
<td class="n">{{ row.area | share }}<span class="second extra">{{ row.area_low | share }} to
{{ row.area_high | share }}</span></td>
<td class="n">{{ row.kb | ceil }}</td>
<td class="n extra">{{ row.accuracy_at_10 | share }}</td>
<td class="n extra">{{ row.appeals_for_90 | share }}</td>
<td class="n extra">{{ row.auroc | number }}</td>
<td class="n extra">{{ row.microseconds | number }}</td></tr>
{% endif %}
{% endfor %}
{% if run.ranking is not none %}
{% for name, area in [("oracle", run.ranking.oracle_area), ("random", run.ranking.random_area)] %}
<tr class="out"><td>{{ name }}</td><td>bound</td><td class="n">{{ area | share }}</td>
<td colspan="5"></td></tr>
{% endfor %}
{% endif %}
</table>
</div>
</section>

<section aria-labelledby="words">
<h2 id="words">Words</h2>
<dl class="card">
<dt>appeal</dt><dd>the input goes to the teacher; the appealing rate is the share that does</dd>
<dt>AccI</dt><dd>the share of the accuracy gap from student to teacher that the pair wins back</dd>
<dt>coefficient</dt><dd>what a layer is scaled by; 0 removes it</dd>
<dt>MACs</dt><dd>multiply-accumulate operations of one input</dd>
<dt>AUROC</dt><dd>how often an input the student gets right outscores one it gets wrong</dd>
</dl>
</section>
</main>
</body>
</html>
"""

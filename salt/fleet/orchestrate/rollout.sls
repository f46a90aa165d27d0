{#- The steps of a rollout; the runner fleet.rollout fills `plan`. Each batch is a step of its own with expect_minions, because
    Salt's `batch` ignores exit codes in salt.function, and leaves out silent boxes in salt.state. A step requires the one
    before it, so that the first failure ends the rollout. #}
{%- set plan = pillar.get('plan', {}) %}
{%- for step in plan.get('steps', []) %}
{{ step.name | tojson }}:
  salt.function:
    - name: {{ step.fun }}
    - tgt: {{ step.boxes | tojson }}
    - tgt_type: list
    - arg: {{ step.arg | tojson }}
    - kwarg: {{ step.kwarg | tojson }}
    - timeout: {{ plan.answer_s }}
    - expect_minions: True
{%- if not loop.first %}
    - require:
      - salt: {{ loop.previtem.name | tojson }}
{%- endif %}
{%- else %}
there are no steps, use `salt-run fleet.rollout`:
  test.fail_without_changes
{%- endfor %}

"""The Prefect flows of prefect.yaml. Importing this module imports Prefect."""

from __future__ import annotations

import flows.build
import flows.evaluate
import flows.fix
import flows.publish
import flows.refresh
import flows.relabel

build = flows.build.build.prefect()
evaluate = flows.evaluate.evaluate.prefect()
fix = flows.fix.fix.prefect()
publish = flows.publish.publish.prefect()
refresh = flows.refresh.refresh.prefect()
rejudge = flows.evaluate.rejudge.prefect()
relabel = flows.relabel.relabel.prefect()

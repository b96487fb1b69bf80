"""The chain as a DAG of Airflow 3, a task a stage. Written by `make airflow-dag`; do not edit."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Param

# Where the chain runs, with conf/ and data/ below, and the program that runs it: of an environment of its own, for
# what Airflow needs and what the chain needs cannot be installed together. Both are told to every worker.
PROJECT = os.environ.get("RESNET50_PROJECT") or str(Path(__file__).resolve().parents[3])
PROGRAM = os.environ.get("RESNET50_PROGRAM") or f"{PROJECT}/.venv/bin/resnet50-pipeline"


def run_stage(stage: str, parameters: str = "", retries: int = 0) -> BashOperator:
    """Return the task that runs a stage in a process of its own, which a SIGTERM ends as `kedro run` is ended."""
    return BashOperator(
        task_id=stage,
        # What people enter goes by variables, and is no part of the command.
        bash_command=f'exec "$RUN_PROGRAM" run --env "$RUN_ENV" --pipelines {stage} --params "$RUN_PARAMS"',
        env={
            "RUN_PROGRAM": PROGRAM,
            "RUN_ENV": "{{ params.environment }}",
            "RUN_PARAMS": parameters + "{{ params.parameters }}",
            # One run of MLflow gathers those of the stages.
            "TRACKING_PARENT_SESSION": "airflow/{{ dag.dag_id }}/{{ run_id }}",
            "TRACKING_PARENT_NAME": "airflow {{ run_id }}",
            "TRACKING_PARENT_ATTEMPT": "{{ ti.try_number }}",
        },
        append_env=True,
        cwd=PROJECT,
        do_xcom_push=False,
        retries=retries,
    )


with DAG(
    dag_id="resnet50_pipeline",
    description="From ImageNet on a disk to a registered ResNet50",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,  # all runs write to one folder
    default_args={"retry_delay": timedelta(minutes=5)},
    params={
        "environment": Param("local", type="string", pattern=r"^\w+$", description="--env of every stage"),
        "parameters": Param("", type="string", description="--params of every stage: group.key=value,…"),
    },
    tags=["resnet50"],
) as dag:
    sample_data = run_stage("sample_data")
    data_validation = run_stage("data_validation")
    data_preparation = run_stage("data_preparation")
    # Tried again it goes on from the newest checkpoint set.
    training = run_stage("training", "training.resume=auto,", retries=3)
    model_registration = run_stage("model_registration")
    evaluation = run_stage("evaluation")

    sample_data >> data_validation
    [data_validation, sample_data] >> data_preparation
    data_preparation >> training
    [data_preparation, data_validation, evaluation, training] >> model_registration
    [data_preparation, data_validation, sample_data, training] >> evaluation

"""Creates the bucket for MLflow's artifacts, unless it already exists."""

import os

import boto3


def main() -> None:
    """Create S3_BUCKET at MLFLOW_S3_ENDPOINT_URL, with the credentials that boto3 finds."""
    client = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
    bucket = os.environ["S3_BUCKET"]
    if bucket not in {known["Name"] for known in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=bucket)


if __name__ == "__main__":
    main()

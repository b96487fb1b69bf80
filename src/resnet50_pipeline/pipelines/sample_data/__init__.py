from resnet50_pipeline.pipelines.sample_data.pipeline import create_pipeline

__all__ = ["create_pipeline"]

"""Renders PaddleClas configurations, runs the ranks, and reads their events. This package never imports paddle."""

"""Reports: what steering did and what it cost, as one HTML page, Markdown or JSON."""

from grains.report.report import Report

__all__ = ["Report"]

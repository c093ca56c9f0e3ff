"""The exporter of OpenTelemetry's spans that is a package of its own."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from told import tell


class OTLPSpanExporter(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            tell(f"otlp: {span.name} {span.status.status_code.name}")
        return SpanExportResult.SUCCESS

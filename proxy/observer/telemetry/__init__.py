"""Records as OpenTelemetry spans and metrics, and their export. The only folder that imports the OpenTelemetry SDK."""

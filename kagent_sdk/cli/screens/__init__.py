"""What people see: functions from documents to rich renderables. Imported by commands on first use."""

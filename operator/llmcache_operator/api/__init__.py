"""What users see: the models behind the custom resource. Imports pydantic only."""

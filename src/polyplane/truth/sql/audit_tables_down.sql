DROP VIEW polyplane.audit_logs;
DROP TABLE polyplane.audit, polyplane.audit_seal, polyplane.audit_exported;
DROP FUNCTION polyplane.audit_stays();

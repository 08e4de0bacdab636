DROP TABLE polyplane.transformation_dead;
DROP TABLE polyplane.transformation;

"""Operations and algorithms, one file per family; found by walking this package, so a new file is the whole change."""

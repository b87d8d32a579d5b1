#include "bus/numbers.h"

#include "core/alloc.h"

enum mr_status mr__numbers_add(struct mr__numbers *numbers, uint64_t number)
{
    if (numbers->count == numbers->capacity) {
        size_t capacity = numbers->capacity == 0 ? 64 : numbers->capacity * 2;
        uint64_t *grown = mr_realloc(numbers->items, capacity * sizeof(*grown));
        if (grown == NULL) {
            return MR_E_NOMEM;
        }
        numbers->items = grown;
        numbers->capacity = capacity;
    }
    numbers->items[numbers->count++] = number;
    return MR_OK;
}

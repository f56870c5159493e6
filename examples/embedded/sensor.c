/* Sensors drift. Two copies of one calibrated network: one stays as it is, the other goes on
 * learning from what it is sure of. No label and no old reading is stored. */
#include "build/sensor.h"
#include "build/sensor_data.h"

#include "start.h"

/* SURE: 60 %, in 15 bits as probabilities are. */
enum { N = sizeof labels, WINDOW = 500, SURE = 32768 * 6 / 10 };

static sensor_memory arenas[2];

/* Both predict every reading; the one that learns takes its own answer for the truth where it is
 * sure. */
int main(void) {
    sensor_memory *fixed, *learning;
    uint32_t row, right_fixed = 0, right_learning = 0;
    sensor_status status = sensor_init(&arenas[0], sizeof arenas[0], &fixed);
    if (status == SENSOR_OK) status = sensor_init(&arenas[1], sizeof arenas[1], &learning);
    for (row = 0; row < N && status == SENSOR_OK; row++) {
        /* the labels are only for the record */
        const sensor_value *x = readings + row * SENSOR_INPUTS;
        uint16_t p[SENSOR_CLASSES];
        int label = 0;
        status = sensor_predict(fixed, x, &label);
        right_fixed += label == labels[row];
        if (status == SENSOR_OK) status = sensor_predict(learning, x, &label);
        right_learning += label == labels[row];
        if (status == SENSOR_OK) status = sensor_predict_proba(learning, x, p);
        if (status == SENSOR_OK && p[label] > SURE) status = sensor_learn(learning, x, label);
        if (row % WINDOW == WINDOW - 1) {
            print_number("per cent right, fixed:   ", right_fixed * 100 / WINDOW);
            print_number("per cent right, learning:", right_learning * 100 / WINDOW);
            right_fixed = right_learning = 0;
        }
    }
    print(sensor_text(status));
    print("\n");
    return status != SENSOR_OK;
}
